// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/store"
)

// problem is why there is no answer, as RFC 9457 has it.
type problem struct {
	Status int
	Detail string // one sentence that says what to do
	// Also is what is known all the same: an object whose members the problem gets.
	Also any
	// RetryAfter is when to ask again; 0: there is no telling.
	RetryAfter time.Duration
	// Challenge says how to show who one is; empty: that would not help.
	Challenge string
}

// Error implements error.
func (p *problem) Error() string { return p.Detail }

// refusal returns a problem that is nothing but a sentence.
func refusal(status int, detail string) error {
	return errors.WithStack(&problem{Status: status, Detail: detail})
}

// wrong returns a problem of a question that nobody can answer.
func wrong(format string, args ...any) error {
	return refusal(http.StatusBadRequest, errors.Newf(format, args...).Error())
}

// MarshalJSON puts the members of Also behind the problem's own.
func (p *problem) MarshalJSON() ([]byte, error) {
	own, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(p.Status), p.Status, render.Line(oneLine(p.Detail))})
	if err != nil || p.Also == nil {
		return own, err
	}
	also, err := json.Marshal(p.Also)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{own[:len(own)-1], also[1:]}, []byte(",")), nil
}

// problemOf finds out what an error means for who asked.
func (s *Server) problemOf(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, replay.ErrNotYet):
		return &problem{Status: http.StatusBadRequest, Detail: err.Error()}
	case errors.Is(err, replay.ErrAmbiguous):
		return &problem{Status: http.StatusConflict, Detail: err.Error()}
	case errors.Is(err, replay.ErrNotFound):
		return &problem{Status: http.StatusNotFound, Detail: err.Error()}
	case store.Silent(err) || errors.IsAny(err, context.Canceled, etcdlog.ErrNoStore):
		return &problem{
			Status: http.StatusServiceUnavailable, RetryAfter: turn,
			Detail: "there was no answer in time: see that etcd runs and has a leader, or ask for less",
		}
	case errors.IsAny(err, events.ErrNewer, events.ErrMalformed):
		return &problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	}
	// What else may have happened is for who runs the daemon, not for who asks it.
	s.options.Logger.Error().Err(err).Msg("a question could not be answered")
	return &problem{Status: http.StatusInternalServerError, Detail: "the question could not be answered: see the daemon's log"}
}

// refuse writes why there is no answer.
func (s *Server) refuse(w *answer, err error) {
	p := s.problemOf(err)
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.RetryAfter.Seconds())))
	}
	if p.Challenge != "" {
		w.Header().Set("WWW-Authenticate", p.Challenge)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	// Who does not read it has gone.
	_ = render.JSON(render.Output{Writer: w, Format: render.FormatJSON}, p)
}
