// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cockroachdb/errors"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const (
	bucketScheme = "s3://"

	// silence is how long an object store may say and take nothing, attempts how often
	// it is asked for one thing in all, and lengthy how long that may take together.
	silence  = 20 * time.Second
	attempts = 3
	lengthy  = 10 * time.Minute
)

// bucket is a place in an object store that speaks S3. Who may use it, and where it is,
// comes from the environment, as for other programs: AWS_ENDPOINT_URL,
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, the shared
// credentials file, or the role of the machine. No call waits for ever, whatever the
// store does.
type bucket struct {
	client *minio.Client
	host   string // the object store's
	name   string
	prefix string // "/" at its end, or empty
}

func openBucket(name string) (Place, error) { return openBucketPatiently(name, silence) }

func openBucketPatiently(name string, silence time.Duration) (Place, error) {
	b, prefix, _ := strings.Cut(strings.TrimPrefix(name, bucketScheme), "/")
	if err := s3utils.CheckValidBucketName(b); err != nil {
		return nil, errors.Newf("%q names no bucket: write s3://BUCKET/PREFIX", name)
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
		if err := s3utils.CheckValidObjectNamePrefix(prefix); err != nil || strings.ContainsFunc(prefix, unicode.IsControl) {
			return nil, errors.Newf("%q has a prefix that no object can have: write s3://BUCKET/PREFIX", name)
		}
	}
	endpoint := os.Getenv("AWS_ENDPOINT_URL")
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
	}
	// It is not quoted: who put a password into it would read that in a log.
	at, err := url.Parse(endpoint)
	if err != nil || at.Host == "" || at.User != nil || strings.Trim(at.Path, "/") != "" || at.RawQuery != "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, errors.New("AWS_ENDPOINT_URL is no address of an object store: write http:// or https:// and a host")
	}
	transport, err := attentive(at.Scheme == "https", silence)
	if err != nil {
		return nil, err
	}
	client, err := minio.New(at.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		}),
		Secure:     at.Scheme == "https",
		Region:     os.Getenv("AWS_REGION"),
		Transport:  transport,
		MaxRetries: attempts,
	})
	if err != nil {
		return nil, errors.Newf("AWS_ENDPOINT_URL is no address of an object store, write http:// or https:// and a host: %v", err)
	}
	return &bucket{client: client, host: at.Host, name: b, prefix: prefix}, nil
}

// attentive is a transport whose connections end when nothing moves on them.
func attentive(secure bool, silence time.Duration) (*http.Transport, error) {
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, errors.Wrap(err, "prepare to ask an object store")
	}
	dialer := &net.Dialer{Timeout: silence, KeepAlive: silence}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &attentiveConn{conn, silence}, nil
	}
	return transport, nil
}

// attentiveConn fails when the other side neither says nor takes anything for a while.
// A limit on a whole request would be one on the size of a segment, too.
type attentiveConn struct {
	net.Conn
	silence time.Duration
}

func (c *attentiveConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write also gives a Read that waits meanwhile for the answer its time anew.
func (c *attentiveConn) Write(b []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// String implements [Place].
func (b *bucket) String() string {
	return bucketScheme + b.name + strings.TrimSuffix("/"+b.prefix, "/")
}

// Put implements [Place]. An object is there whole or not at all: it is sent in one
// request, because the parts of one that was sent in several may be left behind.
func (b *bucket) Put(ctx context.Context, name string, content []byte) error {
	ctx, cancel := context.WithTimeout(ctx, lengthy)
	defer cancel()
	_, err := b.client.PutObject(ctx, b.name, b.prefix+name, bytes.NewReader(content), int64(len(content)),
		minio.PutObjectOptions{ContentType: "application/octet-stream", SendContentMd5: true, DisableMultipart: true})
	return b.explain(err, "put %s there", name)
}

// Get implements [Place].
func (b *bucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, lengthy)
	object, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err == nil {
		// Only a look at it asks the store at all.
		if _, err = object.Stat(); err != nil {
			_ = object.Close()
		}
	}
	if err == nil {
		return &opened{object, b, name, cancel}, nil
	}
	cancel()
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil, errors.Mark(errors.Newf("there is no %s in %s", name, b), ErrNotThere)
	}
	return nil, b.explain(err, "get %s", name)
}

// opened is an object that is being read.
type opened struct {
	object *minio.Object
	bucket *bucket
	name   string
	cancel context.CancelFunc
}

func (o *opened) Read(b []byte) (int, error) {
	n, err := o.object.Read(b)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	return n, o.bucket.explain(err, "get %s", o.name)
}

func (o *opened) Close() error {
	defer o.cancel()
	return o.object.Close()
}

// Delete implements [Place].
func (b *bucket) Delete(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, lengthy)
	defer cancel()
	err := b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil // S3 says so by 204, others by 404
	}
	return b.explain(err, "delete %s there", name)
}

// List implements [Place].
func (b *bucket) List(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lengthy) // which ends the listing if it is left
	defer cancel()
	var names []string
	for object := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix}) {
		if object.Err != nil {
			return nil, b.explain(object.Err, "list it")
		}
		// What stands under a further "/" is not ours.
		if name := strings.TrimPrefix(object.Key, b.prefix); name != "" && !strings.HasSuffix(name, "/") {
			names = append(names, name)
		}
	}
	// A listing that is cut short ends like one that is done.
	if err := ctx.Err(); err != nil {
		return nil, b.explain(err, "list it")
	}
	slices.Sort(names)
	return names, nil
}

// explain says why something cannot be done in the bucket, and what to do. What the
// store writes in its answer is left out but for the code: it may repeat what it was
// sent.
func (b *bucket) explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	answer := minio.ToErrorResponse(err)
	var aside net.Error
	switch {
	case errors.Is(err, context.Canceled):
	case answer.Code == minio.NoSuchBucket:
		err = errors.Newf("the object store at %s has no such bucket: make it, or name another place", b.host)
	case answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusUnauthorized:
		err = errors.Newf("the object store at %s refuses it (%s): see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and what they may do", b.host, codeOf(answer))
	case answer.StatusCode >= 300:
		err = errors.Newf("the object store at %s cannot do it (%s): see its own log", b.host, codeOf(answer))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &aside) && aside.Timeout():
		err = errors.Newf("the object store at %s does not answer in time: see whether it works, and AWS_ENDPOINT_URL", b.host)
	case errors.As(err, &aside), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.Newf("the object store at %s cannot be reached (%v): see whether it runs, and AWS_ENDPOINT_URL", b.host, cause(err))
	}
	return errors.Wrapf(errors.Wrapf(err, format, args...), "the archive in %s", b)
}

// codeOf is the name of an answer of the object store, which is one word.
func codeOf(answer minio.ErrorResponse) string {
	word := strings.IndexFunc(answer.Code, func(r rune) bool { return r < 'A' || r > 'z' }) < 0
	if answer.Code != "" && word {
		return answer.Code
	}
	return http.StatusText(answer.StatusCode)
}

// cause leaves out of a failed request what was asked for.
func cause(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}
