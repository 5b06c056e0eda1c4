// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"os"
	"strings"
	"time"
)

// Reading is what a clock held for likely at one moment of a boot. The next process of
// the same boot goes on from it: the kernel has counted since, whatever became of the
// wall clock.
type Reading struct {
	Boot      string        `json:"boot"`       // the machine's boot id
	Time      time.Time     `json:"time"`       // what time it likely was
	SinceBoot time.Duration `json:"since_boot"` // and how long after the boot, in nanoseconds
}

// Reading returns what the clock can hand on; zero before it knows what time it likely
// is.
func (c *Clock) Reading() Reading {
	boot := bootID()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live || boot == "" {
		return Reading{}
	}
	return Reading{Boot: boot, Time: c.base.UTC(), SinceBoot: c.since}
}

// Resume goes on from what an earlier process handed on, unless the machine has booted
// since, or the clock knows better already.
func (c *Clock) Resume(r Reading) {
	boot := bootID()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live || boot == "" || r.Boot != boot || r.SinceBoot > c.monotonic() {
		return
	}
	c.live, c.base, c.since = true, r.Time, r.SinceBoot
}

// bootID is what the kernel calls this boot; empty where it does not tell.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
