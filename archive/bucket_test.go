// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/ipamlog/ipamlog/archive"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	keyID  = "AKIDWHOARCHIVES"
	secret = "a-secret-that-nobody-prints"
	wanted = "s3://logs/of/ipamlog"
)

// store is an object store in this process, which a test can make trouble in.
type store struct {
	*httptest.Server
	trouble atomic.Pointer[http.HandlerFunc] // answers in its place
	asked   atomic.Int64
}

func newStore(t *testing.T) *store {
	t.Helper()
	fake := gofakes3.New(s3mem.New(), gofakes3.WithLogger(gofakes3.DiscardLog()))
	over := t.Context()
	s := &store{}
	serve := fake.Server()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if instead := s.trouble.Load(); instead != nil {
			(*instead)(w, r.WithContext(over))
			return
		}
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+keyID+"/") {
			refuse(w, r)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	t.Setenv("AWS_ENDPOINT_URL", s.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", keyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_REGION", "us-east-1")
	s.make(t, "logs")
	return s
}

// make makes a bucket.
func (s *store) make(t *testing.T, bucket string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/"+bucket, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Credential="+keyID+"/")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}

// refuse answers as S3 does to who is not known, repeating what was sent.
func refuse(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusForbidden)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><Message>%s</Message><AWSAccessKeyId>%s</AWSAccessKeyId></Error>`,
		r.Header.Get("Authorization"), keyID)
}

func (s *store) place(t *testing.T) archive.Place {
	t.Helper()
	place, err := archive.OpenBucketPatiently(wanted, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// calls are all that can be asked of a place, by name.
func calls(p archive.Place) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"put":    func(ctx context.Context) error { return p.Put(ctx, "one", []byte("content")) },
		"delete": func(ctx context.Context) error { return p.Delete(ctx, "one") },
		"list":   func(ctx context.Context) error { _, err := p.List(ctx); return err },
		"get": func(ctx context.Context) error {
			f, err := p.Get(ctx, "one")
			if err != nil {
				return err
			}
			_, err = io.ReadAll(f)
			return errors.CombineErrors(err, f.Close())
		},
	}
}

func TestBucket(t *testing.T) {
	s := newStore(t)
	p := s.place(t)
	if p.String() != wanted {
		t.Errorf("it is %s", p)
	}
	if names, err := p.List(t.Context()); err != nil || len(names) > 0 {
		t.Fatalf("an empty place has %v: %v", names, err)
	}
	if _, err := p.Get(t.Context(), "one"); !errors.Is(err, archive.ErrNotThere) {
		t.Errorf("what was never put there: %v", err)
	}
	if err := p.Delete(t.Context(), "one"); err != nil {
		t.Errorf("delete what is not there: %v", err)
	}
	large := bytes.Repeat([]byte("ipamlog "), 3<<20) // more than one part of minio's
	for _, file := range []struct {
		name    string
		content []byte
	}{{"two", []byte("second")}, {"one", []byte("first")}, {"one", []byte("again")}, {"large", large}} {
		if err := p.Put(t.Context(), file.name, file.content); err != nil {
			t.Fatal(err)
		}
		got, err := readFile(t, p, file.name)
		if err != nil || !bytes.Equal(got, file.content) {
			t.Fatalf("%s has %d bytes, and was put there with %d: %v", file.name, len(got), len(file.content), err)
		}
	}
	// What others have in the bucket is no business of this archive.
	other, err := archive.OpenPlace("s3://logs")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Put(t.Context(), "other", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if names, err := p.List(t.Context()); err != nil || !slices.Equal(names, []string{"large", "one", "two"}) {
		t.Errorf("%v: %v", names, err)
	}
	if err := p.Delete(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if names, err := p.List(t.Context()); err != nil || !slices.Equal(names, []string{"large", "two"}) {
		t.Errorf("%v: %v", names, err)
	}
}

// Whatever the object store does, an answer comes soon, says what to do, and tells
// nobody what it was asked with.
func TestBucket_trouble(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done() // until the test is over
	}
	for name, trouble := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		say    string
	}{
		"nobody lets us in": {refuse, "AWS_SECRET_ACCESS_KEY"},
		"it hangs":          {hang, "does not answer in time"},
		"it fails": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintf(w, `<Error><Code>SlowDown</Code><Message>%s</Message></Error>`, r.Header.Get("Authorization"))
		}, "cannot do it (S"},
		"it hangs up": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		}, "cannot be reached"},
		"it stops amidst its answer": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
			w.Header().Set("ETag", `"0"`)
			w.Header().Set("Content-Length", "1000000")
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write([]byte("a bit"))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "does not answer in time"},
		"it talks at random": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte("\x1b[2J"))
		}, "cannot do it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			p := s.place(t)
			handler := http.HandlerFunc(trouble.answer)
			s.trouble.Store(&handler)
			for call, do := range calls(p) {
				if name == "it stops amidst its answer" && (call == "put" || call == "delete") {
					continue // of whose answers nobody reads more than the head
				}
				s.asked.Store(0)
				err := do(t.Context()) // waiting for ever would end with the test
				if err == nil || !strings.Contains(err.Error(), trouble.say) || !strings.Contains(err.Error(), wanted) {
					t.Errorf("%s: %v", call, err)
				}
				told := fmt.Sprintf("%+v", err)
				for _, private := range []string{secret, keyID, "\x1b"} {
					if strings.Contains(told, private) {
						t.Errorf("%s tells %q: %s", call, private, told)
					}
				}
				if asked := s.asked.Load(); asked > 10 {
					t.Errorf("%s: it was asked %d times", call, asked)
				}
				t.Logf("%s after %d questions: %v", call, s.asked.Load(), err)
			}
		})
	}
}

// Some answer to a deletion of what is not there that it is not there.
func TestBucket_deleteTwice(t *testing.T) {
	s := newStore(t)
	p := s.place(t)
	var none http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodDelete {
			t.Errorf("asked for %s", r.Method)
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>there is none</Message></Error>`)
	}
	s.trouble.Store(&none)
	if err := p.Delete(t.Context(), "gone"); err != nil {
		t.Error(err)
	}
}

func TestBucket_away(t *testing.T) {
	s := newStore(t)
	p := s.place(t)
	s.Close()
	for call, do := range calls(p) {
		if err := do(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be reached") {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestBucket_noBucket(t *testing.T) {
	newStore(t)
	p, err := archive.OpenPlace("s3://nowhere/x")
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"put", "list"} {
		if err := calls(p)[call](t.Context()); err == nil || !strings.Contains(err.Error(), "has no such bucket") {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// Who stops waiting is not kept waiting.
func TestBucket_cancelled(t *testing.T) {
	s := newStore(t)
	p := s.place(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, do := range calls(p) {
		if err := do(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// An upload that breaks off leaves nothing that looks like a segment, nor anything else.
func TestBucket_interrupted(t *testing.T) {
	s := newStore(t)
	p := s.place(t)
	breakOff := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	})
	s.trouble.Store(&breakOff)
	if err := p.Put(t.Context(), "one", make([]byte, 40<<20)); err == nil {
		t.Error("it was put there")
	}
	s.trouble.Store(nil)
	if names, err := p.List(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("%v: %v", names, err)
	}
}

// What does in a directory does in a bucket.
func TestBucket_archive(t *testing.T) {
	newStore(t)
	b := newBed(t, 1_500)
	b.dir = wanted
	for _, n := range []int{600, 1300} {
		b.run(t, n)
		b.same(t)
		if report := b.sound(t); report.Commits == 0 || int(report.Commits) != len(b.all)-b.stored(t) {
			t.Errorf("%+v", report)
		}
	}
	segments, err := b.log.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if segments[0].Place != wanted {
		t.Errorf("the first segment is in %s", segments[0].Place)
	}
	content := b.read(t, segments[0].File)
	content[len(content)/2] ^= 1
	b.write(t, segments[0].File, content)
	if report := b.offline(t); !named(report.Findings, segments[0].File) {
		t.Errorf("a byte was changed, and nobody says so: %s", sentences(report.Findings))
	}
	if _, _, err := b.log.Read(t.Context(), 0, nil); !errors.Is(err, etcdlog.ErrArchive) {
		t.Errorf("a segment that was changed is read: %v", err)
	}
}

// However an archiver ends that puts segments into a bucket, nothing is lost meanwhile,
// and the next one goes on.
func TestBucket_cut(t *testing.T) {
	newStore(t)
	b := newBed(t, 1_000)
	b.dir = wanted
	before := after(b.all[len(b.all)-1], time.Nanosecond)
	kv := b.client.KV
	for cuts := int64(0); ; cuts++ {
		if cuts > 200 {
			t.Fatal("it comes to no end")
		}
		f := &fuse{}
		f.left.Store(cuts % 19)
		b.client.KV = cutKV{kv, f}
		a := b.archiver(t)
		a.Commits, a.Place = 300, cutPlace{a.Place, f}
		err := a.Run(t.Context(), before, nil)
		b.client.KV = kv
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		b.same(t)
	}
	b.same(t)
	b.sound(t)
}

// No bucket is named by what is none, and where the object store is must be said well.
func TestOpenPlace_refused(t *testing.T) {
	for name, endpoint := range map[string]string{
		"s3://":            "http://127.0.0.1:1",
		"s3:///x":          "http://127.0.0.1:1",
		"s3://UPPER CASE/": "http://127.0.0.1:1",
		"s3://logs/a\x00b": "http://127.0.0.1:1",
		"s3://logs/a":      "127.0.0.1:1",
		"s3://logs/b":      "http://",
		"s3://logs/c":      "http://me:" + secret + "@127.0.0.1:1",
		"s3://logs/d":      "ftp://" + secret,
		"s3://logs/e":      "http://127.0.0.1:1/" + secret,
		"gs://logs":        "",
		"relative":         "",
	} {
		t.Setenv("AWS_ENDPOINT_URL", endpoint)
		_, err := archive.OpenPlace(name)
		if err == nil || strings.Contains(fmt.Sprintf("%+v", err), secret) {
			t.Errorf("%s at %s: %v", name, endpoint, err)
		}
	}
}
