// SPDX-License-Identifier: Apache-2.0

package node

import (
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/spool"
	"github.com/ipamlog/ipamlog/store"
)

// openSpool opens the release spool of a data directory, and says what an operator
// should know of it.
func openSpool(dataDir string, log zerolog.Logger) (*spool.Spool, error) {
	dir := filepath.Join(dataDir, "spool")
	s, err := spool.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := s.Trouble(); err != nil {
		log.Error().Err(err).Msg("the release spool cannot be written, and releases while etcd is away are lost: see that the disk has room")
	}
	if n := s.Damaged(); n > 0 {
		log.Error().Int("lines", n).Str("kept_in", filepath.Join(dir, "damaged")).
			Msg("a part of the release spool is damaged: the addresses it gave back stay held until they are reclaimed")
	}
	for _, a := range s.Aside() {
		log.Warn().Stringer("release", a.ID).Stringer("grant", a.Grant).Stringer("address", a.Address).Time("since", a.Since).Str("why", a.Why).
			Msg("a release was set aside, and will not be made")
	}
	return s, nil
}

// Keeper keeps releases that come before the host has joined: [actor.Host.Resume]
// takes them up.
func (n *Node) Keeper() *actor.Keeper {
	k := &actor.Keeper{Spool: n.spool, Prefix: n.cfg.Prefix, Clock: etcdlog.NewClock()}
	// A memory that cannot be read stops Join, with a sentence.
	if memory, known, err := store.Recollect(n.cfg.DataDir); err == nil && known {
		k.Store = memory.Store
		k.Clock.Resume(memory.Clock)
	}
	return k
}

// Collectors are the metrics of what this machine keeps for its store.
func (n *Node) Collectors() []prometheus.Collector {
	gauge := func(state string, count func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ipamlog_spool_releases", Help: "Releases in the spool: waiting for the store, or set aside.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(count()) })
	}
	return []prometheus.Collector{
		gauge("waiting", func() int { return len(n.spool.Waiting()) }),
		gauge("aside", func() int { return len(n.spool.Aside()) }),
		sizeCollector{n},
	}
}
