// SPDX-License-Identifier: Apache-2.0

package reconcile

import "github.com/prometheus/client_golang/prometheus"

// Collectors are the reconciler's figures.
func (r *Reconciler) Collectors() []prometheus.Collector {
	all := []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ipamlog_reconciliations_total", Help: "Looks at the engine that were compared with the log.",
		}, func() float64 { return float64(r.looks.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ipamlog_suspected_addresses", Help: "Addresses that the log says this host holds and its engine did not know at the last look.",
		}, func() float64 { return float64(r.suspectedNow.Load()) }),
	}
	for what, n := range r.counted {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ipamlog_reconciled_total", Help: "What reconciliation has changed, by what became of it.", ConstLabels: prometheus.Labels{"outcome": what},
		}, func() float64 { return float64(n.Load()) }))
	}
	return all
}
