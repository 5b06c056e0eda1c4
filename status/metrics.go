// SPDX-License-Identifier: Apache-2.0

package status

import (
	"math/big"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/projection"
)

// Metrics are the daemon's figures. It observes requests for package plugin,
// commits for package actor, and questions for package api.
type Metrics struct {
	Registry *prometheus.Registry

	requests     *prometheus.CounterVec
	requestTime  *prometheus.HistogramVec
	commits      prometheus.Counter
	commitEvents prometheus.Histogram
	commitTime   prometheus.Histogram
	conflicts    prometheus.Counter
	questions    *prometheus.CounterVec
}

// latencies reach from an answer out of memory to the last second that a request
// waits for a silent store.
var latencies = []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .128, .25, .5, 1, 2, 4, 8}

// NewMetrics returns metrics with a registry of their own. version is the
// program's. At each scrape revision is asked for the store's revision, and then
// pools for the pools' figures.
func NewMetrics(version string, pools func() []actor.Stats, revision func() int64) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ipamlog_requests_total", Help: "Requests of Docker, by call and by what became of them.",
		}, []string{"call", "outcome"}),
		requestTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ipamlog_request_duration_seconds", Help: "Time from a request to its answer, by call.", Buckets: latencies,
		}, []string{"call"}),
		commits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ipamlog_commits_total", Help: "Commits that this daemon's pools have appended to the log.",
		}),
		commitEvents: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ipamlog_commit_events", Help: "Events in a commit: how many requests shared it.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 100},
		}),
		commitTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ipamlog_commit_duration_seconds", Help: "Time from sending a commit to the store's answer.", Buckets: latencies,
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ipamlog_commit_conflicts_total", Help: "Commits that lost a race against another host and were decided again.",
		}),
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ipamlog_api_requests_total", Help: "Questions to the API, by what was asked and by the status of the answer.",
		}, []string{"route", "status"}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ipamlog_build_info", Help: "Always 1; the label tells the version.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
	m.Registry.MustRegister(
		m.requests, m.requestTime, m.commits, m.commitEvents, m.commitTime, m.conflicts, m.questions, build,
		poolCollector{pools, revision},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Requested implements plugin.Observer.
func (m *Metrics) Requested(call, outcome string, took time.Duration) {
	m.requests.WithLabelValues(call, outcome).Inc()
	m.requestTime.WithLabelValues(call).Observe(took.Seconds())
}

// Committed implements actor.Observer.
func (m *Metrics) Committed(events int, took time.Duration) {
	m.commits.Inc()
	m.commitEvents.Observe(float64(events))
	m.commitTime.Observe(took.Seconds())
}

// Conflicted implements actor.Observer.
func (m *Metrics) Conflicted() { m.conflicts.Inc() }

// Asked implements api.Observer.
func (m *Metrics) Asked(route string, status int) {
	m.questions.WithLabelValues(route, strconv.Itoa(status)).Inc()
}

// poolCollector asks for the pools' figures when they are wanted; a pool that is
// gone leaves no figure behind.
type poolCollector struct {
	pools    func() []actor.Stats
	revision func() int64
}

var (
	poolLabels = []string{"pool", "name", "subnet", "space"}

	poolUsable = prometheus.NewDesc("ipamlog_pool_usable_addresses", "Addresses that a pool gives out on its own; approximate beyond 2^53.", poolLabels, nil)
	poolHeld   = prometheus.NewDesc("ipamlog_pool_held_addresses", "Addresses of a pool that are held, by any host.", poolLabels, nil)
	poolAt     = prometheus.NewDesc("ipamlog_pool_revision", "Revision of the log that this host's view of a pool has reached.", poolLabels, nil)
	poolLag    = prometheus.NewDesc("ipamlog_pool_watch_lag_revisions", "How far this host's view of a pool is behind the store, in revisions.", poolLabels, nil)
	logAt      = prometheus.NewDesc("ipamlog_log_revision", "The store's revision, or the newest that this host has seen while the store does not answer.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (c poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolUsable, poolHeld, poolAt, poolLag, logAt} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c poolCollector) Collect(ch chan<- prometheus.Metric) {
	latest := c.revision()
	pools := c.pools()
	for _, s := range pools {
		latest = max(latest, s.Revision, s.Latest)
	}
	for _, s := range pools {
		usable, _ := new(big.Float).SetInt(projection.NewSubnet(s.Pool.Subnet).GivenOut(s.Pool.Layout)).Float64()
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v,
				s.ID.String(), s.Pool.Name, s.Pool.Subnet.String(), string(s.Pool.Space))
		}
		gauge(poolUsable, usable)
		gauge(poolHeld, float64(s.Held))
		gauge(poolAt, float64(s.Revision))
		gauge(poolLag, float64(max(0, latest-s.Revision)))
	}
	ch <- prometheus.MustNewConstMetric(logAt, prometheus.GaugeValue, float64(latest))
}
