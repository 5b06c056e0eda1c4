// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net/http"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/ipamlog/ipamlog/actor"
)

// What tests look at from inside.
const (
	MaxBody      = maxBody
	MaxWhere     = maxWhere
	ReadPatience = readPatience
)

var (
	FormatPoolID = formatPoolID
	ParsePoolID  = parsePoolID
	Refusal      = refusal
)

// ReadPoolRequest reads what Docker sends.
func ReadPoolRequest(q *ipam.RequestPoolRequest) (actor.PoolRequest, error) {
	return readPoolRequest(q)
}

// Outcomes lists what requests can count as, with the advice for each.
func Outcomes() map[string]string {
	all := map[string]string{}
	for _, r := range refusals {
		all[r.outcome] = r.advice
	}
	return all
}

// Handler is what the server serves.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Guarded is a handler as the server runs it.
func (s *Server) Guarded(h http.Handler) http.Handler { return s.guard(h) }

// SetReadPatience shortens how long a client may take, before the server serves.
func (s *Server) SetReadPatience(d time.Duration) {
	s.http.ReadHeaderTimeout, s.http.ReadTimeout = d, d
}
