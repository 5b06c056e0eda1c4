// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/docker/go-connections/tlsconfig"
)

// newTransport reaches the engine at a place: the path of a socket, or
// host:port.
func newTransport(scheme, place string) (*http.Transport, error) {
	t := &http.Transport{IdleConnTimeout: 30 * time.Second}
	switch scheme {
	case "unix":
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", place)
		}
	case "https":
		var err error
		if t.TLSClientConfig, err = tlsconfig.Client(dockerCertificates()); err != nil {
			return nil, errors.Wrap(err, "read the certificates in $DOCKER_CERT_PATH")
		}
	}
	return t, nil
}

// dockerCertificates are those that docker itself would use.
func dockerCertificates() tlsconfig.Options {
	dir := os.Getenv("DOCKER_CERT_PATH")
	if dir == "" {
		return tlsconfig.Options{}
	}
	return tlsconfig.Options{
		CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
	}
}

// mending is a transport that mends what old engines say.
type mending struct{ http.RoundTripper }

// An engine of version 20 that was given no subnet for IPv6 writes the gateway
// it got with a prefix length, where all others write an address; the client
// would refuse the whole list of networks for it.
var gatewayWithLength = regexp.MustCompile(`("Gateway":\s*"[0-9a-fA-F:.]+)/[0-9]+"`)

// RoundTrip implements [http.RoundTripper].
func (m mending) RoundTrip(request *http.Request) (*http.Response, error) {
	r, err := m.RoundTripper.RoundTrip(request)
	if err != nil || request.Method != http.MethodGet || !strings.Contains(request.URL.Path, "/networks") {
		return r, err
	}
	text, err := io.ReadAll(r.Body)
	if err = errors.CombineErrors(err, r.Body.Close()); err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(gatewayWithLength.ReplaceAll(text, []byte(`$1"`))))
	return r, nil
}
