// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/sim/model"
)

const µs = time.Microsecond

// near fails the test unless two figures differ by no more than a part of the second.
func near(t testing.TB, what string, got, want, part float64) {
	t.Helper()
	if math.Abs(got-want) > part*math.Abs(want) {
		t.Errorf("%s: %g, want %g within %g %%", what, got, want, 100*part)
	}
}

// TestRun_MD1: one core, commits alone and no disk are the queue M/D/1, whose mean wait is
// known (Pollaczek and Khinchine): load × service / (2 × (1 - load)).
func TestRun_MD1(t *testing.T) {
	const service = 100 * µs
	for _, load := range []float64{0.1, 0.5, 0.8, 0.9} {
		t.Run(fmt.Sprint(load), func(t *testing.T) {
			site := model.Site{Hosts: 100, Share: 1, Cores: 1, Churn: load / 3 / 100 / service.Seconds()}
			o := model.Run(site, model.Costs{Commit: service}, 200_000, 1)
			near(t, "mean time", o.Mean.Seconds(), service.Seconds()*(1+load/(2*(1-load))), 0.05)
			near(t, "rate", o.Rate, load/service.Seconds(), 0.01)
			near(t, "cores in use", o.Busy, load, 0.02)
			near(t, "cores in use, by the formula", site.Utilisation(model.Costs{Commit: service}), load, 1e-6)
			if o.Saturated {
				t.Error("it is said to be saturated")
			}
		})
	}
}

// TestRun_alone: a commit that meets nobody takes what its parts do.
func TestRun_alone(t *testing.T) {
	c := model.Costs{Commit: 90 * µs, Flush: 10 * µs, Disk: 200 * µs, Away: 700 * µs, Delivery: 30 * µs}
	o := model.Run(model.Site{Hosts: 1, Share: 1, Cores: 2, Churn: 1}, c, 1000, 1)
	if want := 1000 * µs; o.P50 != want {
		t.Errorf("%v, want %v", o.P50, want)
	}
	near(t, "commits in a flush", o.Together, 1, 0.01)
}

// TestRun_flush: where only the disk counts, a commit waits for the flush that is under way
// when it comes, half of one on average, and then for its own.
func TestRun_flush(t *testing.T) {
	const disk = time.Millisecond
	site := model.Site{Hosts: 1000, Share: 1, Cores: 1, Churn: 10}
	o := model.Run(site, model.Costs{Disk: disk}, 100_000, 1)
	near(t, "mean time", o.Mean.Seconds(), 1.5*disk.Seconds(), 0.02)
	near(t, "commits in a flush", o.Together, site.Events()*disk.Seconds(), 0.02)
	if o.P99 > 2*disk {
		t.Errorf("the slowest took %v", o.P99)
	}
}

// TestRun_loop: hosts that wait for nothing but the answer keep one core busy.
func TestRun_loop(t *testing.T) {
	c := model.Costs{Commit: 50 * µs, Delivery: 10 * µs}
	for _, hosts := range []int{1, 4, 16} {
		site := model.Site{Hosts: hosts, Share: hosts, Cores: 1, Loop: true}
		o := model.Run(site, c, 10_000, 1)
		near(t, "rate", o.Rate, 1/(c.Commit+time.Duration(hosts)*c.Delivery).Seconds(), 0.02)
	}
}

// TestRun_seed: the same seed tells the same, another one something else.
func TestRun_seed(t *testing.T) {
	site := model.Site{Hosts: 50, Share: 10, Cores: 2, Churn: 2, Index: time.Minute}
	c := model.Costs{Commit: 300 * µs, Delivery: 30 * µs, KeepAlive: 50 * µs, IndexCommit: 9 * µs, Disk: time.Millisecond}
	first := model.Run(site, c, 5000, 7)
	if again := model.Run(site, c, 5000, 7); again != first {
		t.Errorf("%+v, and then %+v", first, again)
	}
	if other := model.Run(site, c, 5000, 8); other == first {
		t.Errorf("another seed tells the same: %+v", other)
	}
}

// TestRun_border: simulated, a site below the border keeps up, and one above does not.
func TestRun_border(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cost := func(name string, most int) time.Duration {
			return time.Duration(rapid.IntRange(1, most).Draw(t, name)) * µs
		}
		c := model.Costs{
			Commit: 100*µs + cost("commit", 300), Delivery: cost("delivery", 50), KeepAlive: cost("keep-alive", 100),
			IndexCommit: cost("index, a commit", 10), IndexStream: cost("index, a stream", 10),
			Flush: cost("flush", 300), Disk: cost("disk", 500),
		}
		site := model.Site{
			Share: rapid.IntRange(1, 20).Draw(t, "share"), Cores: rapid.IntRange(1, 8).Draw(t, "cores"),
			Churn: rapid.Float64Range(0.1, 5).Draw(t, "churn"),
		}
		border := site.Border(c, 1)
		if border < 20 {
			return // a host more or less is too much of it
		}
		site.Hosts = border * 8 / 10
		// Where a flush is not always under way, some are shared all the same: the formula is on
		// the safe side then.
		used, flushes := site.Utilisation(c), c
		flushes.Flush, flushes.Disk = 0, 0
		slack := used - site.Utilisation(flushes)
		if o := model.Run(site, c, 3_000, 1); o.Saturated || o.Busy > used+0.1 || o.Busy < used-slack-0.1 {
			t.Errorf("below the border: %+v, and %.2f by the formula, of it %.2f for flushes", o, used, slack)
		}
		site.Hosts = border * 8
		if o := model.Run(site, c, 20_000, 1); !o.Saturated && o.Busy < 0.99 {
			t.Errorf("above the border of %d: %+v", border, o)
		}
		site.Index = time.Minute
		if with := site.Border(c, 1); with > border {
			t.Errorf("with an index to keep there may be %d hosts, without %d", with, border)
		}
	})
}
