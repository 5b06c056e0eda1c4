// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /metrics, /healthz and /readyz, and all below /api/ by the handler
// for it. ready returns nil, or why requests cannot be answered now, in one
// sentence.
func Handler(m *Metrics, ready func() error, questions http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/", questions)
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := mux.Handler(r)
		if pattern == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			http.Error(w, "there is nothing at this path: ask /metrics, /healthz or /readyz, or what /api/v1/openapi.yaml describes", http.StatusNotFound)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
