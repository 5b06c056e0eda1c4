// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/cockroachdb/errors"
)

// Access says who may ask. The zero value lets nobody in.
type Access struct {
	// Local says that only this machine can connect.
	Local bool
	// Encrypted says that requests come over TLS.
	Encrypted bool
	// Certificates says that a client certificate, where one is shown, was verified
	// against an authority of the operator's choice: it opens.
	Certificates bool
	// Tokens open too, if not nil. Whoever may connect must show a token or a
	// certificate once either is there.
	Tokens *Tokens
}

// IsLocal says whether a listener's address is reached from this machine alone.
func IsLocal(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// credentials says whether something must be shown.
func (a Access) credentials() bool { return a.Tokens != nil || a.Certificates }

// Closed says in one sentence why nobody is let in; it is empty if somebody may be.
func (a Access) Closed() string {
	switch {
	case a.Local || a.Encrypted && a.credentials():
		return ""
	case a.Encrypted:
		return "the API is closed on an address that others reach: give --listen-token-file or --listen-client-ca beside --listen-cert, or listen on 127.0.0.1"
	case a.credentials():
		return "the API is closed on an address that others reach without TLS: give --listen-cert and --listen-key, or listen on 127.0.0.1"
	}
	return "the API is closed on an address that others reach: give --listen-cert and --listen-key, and --listen-token-file or --listen-client-ca, or listen on 127.0.0.1"
}

// admit returns nil if the request may be answered, or why not.
func (a Access) admit(r *http.Request) error {
	if why := a.Closed(); why != "" {
		return refusal(http.StatusForbidden, why)
	}
	if !a.credentials() {
		// A page in a browser on this machine can have its own name resolve to
		// 127.0.0.1, and would read the answers as its own. It cannot change the
		// name that the browser then sends.
		if !loopbackName(r.Host) {
			return refusal(http.StatusForbidden, "the API is asked for as localhost or 127.0.0.1 here: use one of these in the URL, or have tokens with --listen-token-file")
		}
		return nil
	}
	if a.Certificates && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return nil
	}
	if a.Tokens == nil {
		return refusal(http.StatusForbidden, "show a client certificate that the authority of --listen-client-ca has signed")
	}
	return a.Tokens.admit(r)
}

// loopbackName says whether a Host header names this machine and no other.
func loopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// admit lets in who bears one of the tokens.
func (t *Tokens) admit(r *http.Request) error {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	p := &problem{Status: http.StatusUnauthorized, Challenge: `Bearer realm="ipamlog"`, Detail: "show a token: Authorization: Bearer TOKEN"}
	switch known, err := t.Know(strings.TrimSpace(shown)); {
	case err != nil:
		return refusal(http.StatusServiceUnavailable, "the tokens cannot be read: see the daemon's log")
	case strings.EqualFold(scheme, "Bearer") && known:
		return nil
	case shown != "":
		p.Challenge += `, error="invalid_token"`
		p.Detail = "this token is not one of --listen-token-file: ask who runs the daemon for another"
	}
	return errors.WithStack(p)
}
