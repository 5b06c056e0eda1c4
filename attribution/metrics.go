// SPDX-License-Identifier: Apache-2.0

package attribution

import "github.com/prometheus/client_golang/prometheus"

// Collectors are the attributor's figures.
func (a *Attributor) Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ipamlog_attributions_total", Help: "Attributions of addresses to containers and networks that this daemon has appended to the log.",
		}, func() float64 { return float64(a.appended.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ipamlog_unattributed_holdings", Help: "Addresses held by this host of which Docker's engine has not said yet whose they are.",
		}, func() float64 { return float64(a.open()) }),
	}
}
