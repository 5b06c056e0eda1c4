// SPDX-License-Identifier: Apache-2.0

// Package status is how the daemon is watched: its figures, and whether it lives
// and is ready, over HTTP.
//
// [Metrics] collects what the other packages observe, in the form of Prometheus.
// [Handler] serves /metrics, /healthz (the process answers) and /readyz (so does
// everything Docker's requests need), beside the API of package api. [Server] and
// [TLS] serve it, bounded in all that a client can have of the daemon. All of it
// is safe for concurrent use.
package status
