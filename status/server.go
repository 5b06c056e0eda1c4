// SPDX-License-Identifier: Apache-2.0

package status

import (
	"crypto/tls"
	stdlog "log" //nolint:depguard // net/http takes no other logger
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
)

const (
	// maxHeader is how many bytes a request's header may have.
	maxHeader = 16 << 10
	// idleTime is how long a connection is kept on which nothing is asked: a browser
	// or a script goes on within that.
	idleTime = 15 * time.Second
)

// Server serves a handler so that no client can hold up the daemon.
type Server struct{ http *http.Server }

// NewServer returns a server that is not serving yet. With security it speaks TLS
// alone. What clients do wrong is only logged at the debug level.
func NewServer(h http.Handler, security *tls.Config, log zerolog.Logger) *Server {
	s := &http.Server{
		Handler: h, TLSConfig: security, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: idleTime,
		ErrorLog: stdlog.New(quiet{log}, "", 0), Protocols: new(http.Protocols),
	}
	// One connection is one request at a time: that is what the bounds are about.
	s.Protocols.SetHTTP1(true)
	return &Server{s}
}

// Serve answers on a listener until [Server.Close].
func (s *Server) Serve(l net.Listener) error {
	c := newCrowd(l)
	s.http.ConnState = c.changed
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(c, "", "")
	} else {
		err = s.http.Serve(c)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return errors.Wrap(err, "serve metrics and health")
}

// Close ends the server and all its connections.
func (s *Server) Close() { _ = s.http.Close() }

// quiet brings what net/http has to say into our log.
type quiet struct{ log zerolog.Logger }

// Write implements [io.Writer].
func (q quiet) Write(line []byte) (int, error) {
	q.log.Debug().Msg(strings.TrimSpace(string(line)))
	return len(line), nil
}
