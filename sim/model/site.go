// SPDX-License-Identifier: Apache-2.0

package model

import (
	"math"
	"time"
)

// Costs are what things cost: CPU time of etcd, unless it says otherwise.
type Costs struct {
	Commit    time.Duration `json:"commit"`     // a commit of one event, besides telling of it
	Event     time.Duration `json:"event"`      // each further event in it
	Flush     time.Duration `json:"flush"`      // each time that commits are made durable together
	Delivery  time.Duration `json:"delivery"`   // each daemon that is told of a commit
	KeepAlive time.Duration `json:"keep_alive"` // a lease that is extended
	Join      time.Duration `json:"join"`       // a daemon that starts, and ends again
	JoinPool  time.Duration `json:"join_pool"`  // each pool that there is when it starts
	// A daemon that brings its index of the past up to date looks at the head of each
	// stream, asks for what came to those that have got something, and reads that.
	IndexStream time.Duration `json:"index_stream"`
	IndexBehind time.Duration `json:"index_behind"`
	IndexCommit time.Duration `json:"index_commit"`

	Disk time.Duration `json:"disk"` // until commits are on disk, by the clock
	Away time.Duration `json:"away"` // what else a lone commit takes, by the clock: the connection, the schedulers

	// CPU time of daemons, on hosts of their own: the one whose commit it is, and each that
	// is told of it.
	Decided  time.Duration `json:"decided"`
	Followed time.Duration `json:"followed"`

	BytesEvent float64 `json:"bytes_event"` // in etcd's database, of an event in the log
	BytesHeld  float64 `json:"bytes_held"`  // and of a held address
}

// OnOneMachine are the costs where the daemons use the same cores as etcd.
func (c Costs) OnOneMachine() Costs {
	c.Commit += c.Decided
	c.Delivery += c.Followed
	c.Decided, c.Followed = 0, 0
	return c
}

const (
	// lifeEvents are what a container leaves in the log: allocated, attributed, released;
	// on a host that is not busy each is a commit of its own.
	lifeEvents = 3
	// leaseEvery is how often a daemon extends its lease.
	leaseEvery = 5 * time.Second
	// reread is how far back daemons read again what they have of the log, each time they
	// read on.
	reread = time.Minute
)

// Site is what there is, and what happens there.
type Site struct {
	Hosts int
	Share int     // hosts in each pool, one at least
	Churn float64 // containers started, and others stopped, a second on each host
	Cores int     // that etcd has
	// Index is how often a daemon brings its index of the past up to date; 0: never.
	Index time.Duration
	// Indexed is how many daemons keep an index, at most; 0: all.
	Indexed int
	// Loop says that each host sends the next commit as soon as it has the answer to the
	// last one; Churn does not matter then.
	Loop bool
}

// Events is how many come into the log a second.
func (s Site) Events() float64 { return float64(s.Hosts) * s.Churn * lifeEvents }

// Pools is how many there are.
func (s Site) Pools() float64 { return float64(s.Hosts) / float64(s.Share) }

// watchers is how many daemons are told of a commit.
func (s Site) watchers() int { return min(s.Share, s.Hosts) }

// keepers is how many daemons keep an index.
func (s Site) keepers() float64 {
	if s.Indexed == 0 {
		return float64(s.Hosts)
	}
	return float64(min(s.Hosts, s.Indexed))
}

// reading is what it costs etcd that one daemon brings its index up to date.
func (s Site) reading(c Costs) time.Duration {
	commits := s.Events() * (s.Index + reread).Seconds()
	behind := s.Pools() * (1 - math.Exp(-s.Events()*s.Index.Seconds()/s.Pools()))
	return time.Duration(s.Pools()*float64(c.IndexStream) + behind*float64(c.IndexBehind) + commits*float64(c.IndexCommit))
}

// Utilisation is the part of etcd's cores that the site needs, when flushes are shared as
// far as they can be: from 1 on it cannot keep up.
func (s Site) Utilisation(c Costs) float64 {
	commit := c.Commit + time.Duration(s.watchers())*c.Delivery
	// A flush begins when the one before is on disk.
	flushes := s.Events()
	if each := c.Flush + c.Disk; each > 0 {
		flushes = min(flushes, 1/each.Seconds())
	}
	busy := s.Events()*commit.Seconds() + flushes*c.Flush.Seconds() + float64(s.Hosts)*c.KeepAlive.Seconds()/leaseEvery.Seconds()
	if s.Index > 0 {
		busy += s.keepers() / s.Index.Seconds() * s.reading(c).Seconds()
	}
	return busy / float64(s.Cores)
}

// Border is how many hosts, of a site that is otherwise the same, need a part of etcd's
// cores.
func (s Site) Border(c Costs, part float64) int {
	fits := func(n int) bool {
		s.Hosts = n
		return s.Utilisation(c) <= part
	}
	low, high := 0, 1
	for fits(high) && high < 1<<30 {
		low, high = high, 2*high
	}
	for high-low > 1 {
		if middle := (low + high) / 2; fits(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// Watching is the part of one core that a daemon needs to follow what the others of its
// pool do.
func (s Site) Watching(c Costs) float64 {
	others := float64(s.watchers()-1) * s.Churn * lifeEvents
	return others * c.Followed.Seconds()
}

// Growth is by how many bytes a day etcd's database grows, as long as nothing is archived.
func (s Site) Growth(c Costs) float64 { return s.Events() * 86400 * c.BytesEvent }
