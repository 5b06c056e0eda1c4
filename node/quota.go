// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/store"
)

// unknownQuota is etcd's default, for one before 3.6, which does not tell its own.
const unknownQuota = 2 << 30

// WatchSize looks how full etcd is, once when the host has joined and then now and again
// until ctx ends, and warns long before it takes no more writes. Each member has a database
// and a quota of its own: what counts is the fullest. A store that does not tell is left
// alone, with a line for those who debug.
func (n *Node) WatchSize(ctx context.Context, every time.Duration) error {
	var f fullness
	for {
		pause := joinPause
		if m := n.joined.Load(); m != nil {
			n.measure(ctx, m, &f)
			// Not all hosts at the same time, however they were started.
			pause = every - every/10 + rand.N(every/5+1)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// measure looks once.
func (n *Node) measure(ctx context.Context, m *membership, f *fullness) {
	endpoints := m.client.Endpoints()
	if n.etcd != nil {
		endpoints = []string{n.etcd.Endpoint()}
	}
	s, whole, err := fullest(ctx, m.client, endpoints)
	if err != nil {
		if ctx.Err() == nil {
			n.log.Debug().Err(store.Explain(err, m.client)).Msg("etcd does not tell how full it is, and nobody is warned of that")
		}
		return
	}
	n.sizes.Store(&s)
	if s.quota < 0 || !whole && s.part() < f.told {
		return // its operator wants none; or the one that is fuller did not answer
	}
	passed, left, bloated := f.note(time.Now(), s)
	var said string
	switch {
	case passed:
		said = warning(s, left, n.cfg.ArchiveAfter > 0)
	case bloated && n.etcd == nil: // the embedded one defragments itself
		said = fmt.Sprintf("etcd's file has grown to %.0f %% of its quota, and most of it is free: run `etcdctl defrag` on each member, or it may take no more writes for nothing",
			100*float64(s.file)/float64(s.quota))
	default:
		return
	}
	n.log.Warn().Str("member", s.member).Int64("bytes", s.file).Int64("bytes_in_use", s.inUse).Int64("quota_bytes", s.quota).Msg(said)
}

// warning is what is said of a store that passed a mark.
func warning(s sizes, left time.Duration, archiving bool) string {
	when := ""
	if left > 0 {
		when = fmt.Sprintf(" (in %s at the rate seen)", days(left))
	}
	remedy := "move the old part of the log to an archive with `ipamlog archive`, or have the daemons do so with `ipamlog serve --archive-after`"
	if archiving {
		remedy = "have a shorter --archive-after move more of the log to the archive, or raise etcd's --quota-backend-bytes"
	}
	return fmt.Sprintf("etcd is %.0f %% full, and takes no more writes when it is full%s: %s", 100*s.part(), when, remedy)
}

func days(d time.Duration) string {
	switch n := int(d.Hours() / 24); n {
	case 0:
		return "less than a day"
	case 1:
		return "a day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

// fullest asks all members, and returns the sizes of the one that has the least left, and
// whether all answered. It is an error only if none does.
func fullest(ctx context.Context, client *clientv3.Client, endpoints []string) (worst sizes, whole bool, failed error) {
	for _, at := range endpoints {
		asking, cancel := context.WithTimeout(ctx, askPatience)
		resp, err := client.Status(asking, at)
		cancel()
		if err != nil {
			failed = errors.Wrapf(err, "ask %s for its size", at)
			continue
		}
		s := sizes{member: at, file: resp.DbSize, inUse: resp.DbSizeInUse, quota: cmp.Or(resp.DbSizeQuota, unknownQuota)}
		if worst.member == "" || s.quota > 0 && (worst.quota < 0 || s.part() > worst.part()) {
			worst = s
		}
	}
	if worst.member == "" {
		return sizes{}, false, failed
	}
	return worst, failed == nil, nil
}

// sizeCollector has the figures of the last look; none before it.
type sizeCollector struct{ n *Node }

var (
	storeFile  = prometheus.NewDesc("ipamlog_store_bytes", "Size of etcd's database file, of the member that is fullest.", nil, nil)
	storeInUse = prometheus.NewDesc("ipamlog_store_bytes_in_use", "What of it is in use: the rest is free for reuse.", nil, nil)
	storeQuota = prometheus.NewDesc("ipamlog_store_quota_bytes", "Size of that file from which on etcd takes no more writes.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (sizeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storeFile, storeInUse, storeQuota} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c sizeCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.n.sizes.Load()
	if s == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(storeFile, prometheus.GaugeValue, float64(s.file))
	ch <- prometheus.MustNewConstMetric(storeInUse, prometheus.GaugeValue, float64(s.inUse))
	if s.quota > 0 {
		ch <- prometheus.MustNewConstMetric(storeQuota, prometheus.GaugeValue, float64(s.quota))
	}
}
