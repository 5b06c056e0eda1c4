// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
)

// Prefix is the path below which everything is.
const Prefix = "/api/"

// Source is where answers come from.
type Source struct {
	Log  *etcdlog.Log
	Past Past
}

// Past is every holding there ever was, for many at once: an index.Index is one.
type Past interface {
	// History returns all of it, as it is now.
	History(ctx context.Context, progress func(int)) (*replay.History, error)
	// Ask puts a question to it for which little is looked at. The question may be
	// put twice.
	Ask(ctx context.Context, progress func(int), question func(*replay.History) error) error
}

// Observer is told of every request.
type Observer interface {
	// Asked: route is a path of the description, or "other".
	Asked(route string, status int)
}

// Options are what a [Server] is made with. Their zero values let nobody in.
type Options struct {
	Access   Access
	Version  Version
	Observer Observer // nil: none
	Logger   zerolog.Logger
	// Now is the clock that human times are relative to; nil is time.Now.
	Now func() time.Time
}

// Server answers questions. It is an [http.Handler] for everything below
// [Prefix], safe for concurrent use.
type Server struct {
	options Options
	source  atomic.Pointer[Source]
	mux     *http.ServeMux
	slots   slots
}

// NewServer returns a server that refuses until it has a source.
func NewServer(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{options: o, mux: http.NewServeMux(), slots: newSlots()}
	for _, r := range routes {
		s.mux.Handle(r.path, s.handle(r))
	}
	s.mux.Handle("/", s.handle(nowhere))
	return s
}

// Attach gives the server what it answers from.
func (s *Server) Attach(source Source) { s.source.Store(&source) }

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// handle serves one route.
func (s *Server) handle(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &answer{ResponseWriter: w}
		out.Header().Set("X-Content-Type-Options", "nosniff")
		out.Header().Set("Cache-Control", "no-store")
		defer func() {
			fault := recover()
			if fault != nil && fault != http.ErrAbortHandler { //nolint:errorlint // this very value means to abort
				s.options.Logger.Error().Interface("fault", fault).Str("path", r.URL.Path).Bytes("stack", debug.Stack()).
					Msg("a question met a fault in the program")
				if out.status == 0 {
					s.refuse(out, errors.New("fault"))
					fault = nil
				}
			}
			if s.options.Observer != nil {
				s.options.Observer.Asked(route.path, out.status)
			}
			if fault != nil {
				panic(http.ErrAbortHandler) // what was written is not the whole answer
			}
		}()
		err := s.ask(out, r, route)
		switch {
		case err == nil:
		case out.status == 0:
			s.refuse(out, err)
		default:
			if r.Context().Err() == nil {
				s.options.Logger.Warn().Err(err).Str("path", r.URL.Path).Msg("an answer was broken off")
			}
			panic(http.ErrAbortHandler)
		}
	})
}

// ask answers a question, or returns why not.
func (s *Server) ask(w *answer, r *http.Request, route route) error {
	if err := s.options.Access.admit(r); err != nil {
		return err
	}
	if route.answer == nil {
		return refusal(http.StatusNotFound, "there is nothing at this path: see /api/v1/openapi.yaml for what there is")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return refusal(http.StatusMethodNotAllowed, "questions are asked with GET: nothing can be changed here")
	}
	q, err := s.read(w, r, route)
	if err != nil {
		return err
	}
	if route.cost == free {
		return route.answer(q)
	}
	source := s.source.Load()
	if source == nil {
		return refusal(http.StatusServiceUnavailable, "the store does not answer yet: see the daemon's log")
	}
	q.source = *source
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	q.ctx = ctx
	if q.seat, err = s.slots.take(ctx, route.cost); err != nil {
		return err
	}
	defer q.seat.leave()
	return route.answer(q)
}

// oneLine is a text as an answer may have it in a sentence.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
