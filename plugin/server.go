// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/rs/zerolog"
)

const (
	// maxBody is how many bytes a request may have: what Docker sends has some
	// hundreds.
	maxBody = 64 << 10
	// readPatience is how long a client may take to send a request. Answers
	// have no such bound: actors refuse by themselves.
	readPatience = 10 * time.Second
	// idlePatience must be longer than Docker keeps a connection for its next
	// request, which is 30 s.
	idlePatience = 5 * time.Minute
	// contentType is the plugin protocol's.
	contentType = "application/vnd.docker.plugins.v1.2+json"
)

// Observer is told of every request.
type Observer interface {
	// Requested: call is the call's name, outcome "ok", "repeat" or what it was
	// refused for.
	Requested(call, outcome string, took time.Duration)
}

// Server speaks the plugin protocol for a driver.
type Server struct {
	driver   *Driver
	observer Observer
	log      zerolog.Logger
	http     *http.Server
}

// NewServer returns a server that is not serving yet.
func NewServer(d *Driver, observer Observer, log zerolog.Logger) *Server {
	s := &Server{driver: d, observer: observer, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Plugin.Activate", s.activate)
	mux.HandleFunc("POST /IpamDriver.GetCapabilities", handleEmpty(s, "GetCapabilities", ipam.Ipam.GetCapabilities))
	mux.HandleFunc("POST /IpamDriver.GetDefaultAddressSpaces", handleEmpty(s, "GetDefaultAddressSpaces", ipam.Ipam.GetDefaultAddressSpaces))
	mux.HandleFunc("POST /IpamDriver.RequestPool", handle(s, "RequestPool", ipam.Ipam.RequestPool))
	mux.HandleFunc("POST /IpamDriver.ReleasePool", handle(s, "ReleasePool", answerless(ipam.Ipam.ReleasePool)))
	mux.HandleFunc("POST /IpamDriver.RequestAddress", handle(s, "RequestAddress", ipam.Ipam.RequestAddress))
	mux.HandleFunc("POST /IpamDriver.ReleaseAddress", handle(s, "ReleaseAddress", answerless(ipam.Ipam.ReleaseAddress)))
	mux.HandleFunc("/", s.unknown)
	s.http = &http.Server{
		Handler:           s.guard(mux),
		ReadHeaderTimeout: readPatience,
		ReadTimeout:       readPatience,
		IdleTimeout:       idlePatience,
		ErrorLog:          quietLog(log),
	}
	return s
}

// Serve answers on a listener until [Server.Shutdown].
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return errors.Wrap(err, "serve the plugin socket")
	}
	return nil
}

// Shutdown takes no new request, and waits for those under way until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // cuts those that would not end
		return errors.Wrap(err, "wait for the last requests")
	}
	return nil
}

// guard keeps a fault in one request from taking the daemon down.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(fault)
			}
			s.log.Error().Interface("fault", fault).Str("path", r.URL.Path).Bytes("stack", debug.Stack()).
				Msg("a request met a fault in the program")
			_ = s.write(w, http.StatusInternalServerError, errorBody{Err: "ipamlog met a fault of its own: report it with its log"})
		}()
		next.ServeHTTP(w, r)
	})
}

// errorBody carries a refusal under both names: Docker reads Error in an answer
// with status 200, and Err in any other.
type errorBody struct {
	Error string `json:",omitempty"`
	Err   string `json:",omitempty"`
}

func (s *Server) activate(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	_ = s.write(w, http.StatusOK, map[string][]string{"Implements": {"IpamDriver"}})
	s.record(s.driver.request(r.Context()), "Activate", begun, nil)
}

// unknown refuses what is no call of the protocol.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	status, what := http.StatusNotFound, "ipamlog knows no such call: use those of Docker's IPAM plugin protocol"
	if r.Method != http.MethodPost {
		status, what = http.StatusMethodNotAllowed, "ipamlog takes POST alone: use Docker's IPAM plugin protocol"
	}
	_ = s.write(w, status, errorBody{Err: what})
}

// answerless fits a call that answers nothing but its error.
func answerless[Q any](call func(ipam.Ipam, *Q) error) func(ipam.Ipam, *Q) (*struct{}, error) {
	return func(d ipam.Ipam, q *Q) (*struct{}, error) { return &struct{}{}, call(d, q) }
}

// handleEmpty serves a call that has no body: Docker sends none, others send {}.
func handleEmpty[A any](s *Server, name string, call func(ipam.Ipam) (*A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		request := s.driver.request(r.Context())
		answer, err := call(request)
		s.answer(w, request, answer, err)
		s.record(request, name, begun, err)
	}
}

// handle serves a call with a body. An empty one is never a request: Docker
// sends it when it tries again after a connection broke, because it has used up
// what it wanted to say.
func handle[Q, A any](s *Server, name string, call func(ipam.Ipam, *Q) (*A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		request := s.driver.request(r.Context())
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			// From here on the client waits, and must not be taken for gone when
			// the time to send its request is over.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		}
		var tooLarge *http.MaxBytesError
		status := http.StatusBadRequest
		q := new(Q)
		switch {
		case errors.As(err, &tooLarge):
			status = http.StatusRequestEntityTooLarge
			err = errors.Wrapf(ErrRequest, "the body has more than %d bytes", maxBody)
		case err != nil:
			err = errors.Mark(errors.Wrap(err, "read the body"), ErrRequest)
		case len(body) == 0:
			err = errors.Wrap(ErrRequest, "the body is empty, as after a broken connection: do again what you did")
		default:
			err = unreadable(json.Unmarshal(body, q))
		}
		if err != nil {
			_, sentence := refusal(err)
			_ = s.write(w, status, errorBody{Err: sentence})
			s.record(request, name, begun, err)
			return
		}
		answer, err := call(request, q)
		s.answer(w, request, answer, err)
		s.record(request, name, begun, err)
	}
}

// unreadable explains a body to who typed it, without the types that it did not fit.
func unreadable(err error) error {
	var misfit *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &misfit) && misfit.Field != "":
		return errors.Wrapf(ErrRequest, "%s cannot be %s: see Docker's IPAM plugin protocol", misfit.Field, misfit.Value)
	case errors.As(err, &misfit):
		return errors.Wrapf(ErrRequest, "the body is %s: send a JSON object, as Docker's IPAM plugin protocol has it", misfit.Value)
	}
	return errors.Wrapf(ErrRequest, "the body is no JSON (%v): send an object, as Docker's IPAM plugin protocol has it", err)
}

// answer sends what the driver said. An answer that cannot reach Docker any more
// is taken back: nobody would ever release it.
func (s *Server) answer(w http.ResponseWriter, r *request, answer any, err error) {
	if err != nil {
		_, sentence := refusal(err)
		_ = s.write(w, http.StatusOK, errorBody{Error: sentence})
		return
	}
	lost := r.ctx.Err()
	if lost == nil {
		lost = s.write(w, http.StatusOK, answer)
	}
	if lost != nil && r.undo != nil {
		s.log.Warn().Err(lost).Msg("the answer did not reach Docker: taking it back")
		r.undo()
	}
}

func (s *Server) write(w http.ResponseWriter, status int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return errors.Wrap(err, "write the answer")
	}
	// With its length known the answer leaves as one piece, not in chunks.
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		return errors.Wrap(err, "write the answer")
	}
	return errors.Wrap(http.NewResponseController(w).Flush(), "send the answer")
}

// record writes a request's one line of log, and counts it.
func (s *Server) record(r *request, name string, begun time.Time, err error) {
	took := time.Since(begun)
	outcome, level := "ok", zerolog.InfoLevel
	switch {
	case err != nil:
		outcome, _ = refusal(err)
		level = zerolog.WarnLevel
	case r.note == nil:
		level = zerolog.DebugLevel
	case r.repeat:
		outcome = "repeat"
	}
	s.log.WithLevel(level).Err(err).Str("call", name).Str("outcome", outcome).Dur("took_ms", took).
		Func(func(line *zerolog.Event) {
			if r.note != nil && err == nil {
				r.note(line)
			}
		}).Msg("request")
	s.observer.Requested(name, outcome, took)
}
