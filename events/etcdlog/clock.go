// SPDX-License-Identifier: Apache-2.0

package etcdlog

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"github.com/ipamlog/ipamlog/events"
)

const (
	// clockTolerance is how far a wall clock may be ahead of what the others'
	// clocks make likely before its commits are marked.
	clockTolerance = 10 * time.Second
	// idleTolerance is the same for a host that has seen no commit happen since it
	// booted, and whose kernel calls its clock unsynchronised: the log may have slept
	// that long.
	idleTolerance = 30 * 24 * time.Hour
)

// Clock stamps commits, and notices when this host's wall clock contradicts the
// log.
//
// The running time of the log is the latest time of any commit so far that was
// not marked suspect; it never goes back along the revisions. From the latest
// time stamped here, or seen happening elsewhere, and the monotonic clock since
// then follows what time it likely is; from an earlier process, too, as long as the
// machine has not booted since (see [Clock.Reading]). A clock that the kernel calls
// synchronised is believed whatever it says. Safe for concurrent use.
type Clock struct {
	// The sources are fields so that tests can bend time.
	wall         func() time.Time
	monotonic    func() time.Duration // goes on while the machine sleeps
	synchronised func() bool

	mu      sync.Mutex
	running time.Time
	live    bool // base and since are set
	base    time.Time
	since   time.Duration
	entropy *ulid.MonotonicEntropy
	lastMS  uint64
}

// NewClock returns a clock on this machine's.
func NewClock() *Clock {
	return &Clock{
		wall:         time.Now,
		monotonic:    SinceBoot,
		synchronised: kernelSynchronised,
		entropy:      ulid.Monotonic(rand.Reader, 0),
	}
}

// Seen tells the clock of a commit. happening says that it was watched as it
// happened, not read later.
func (c *Clock) Seen(commit events.Commit, happening bool) {
	if commit.ClockSuspect {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if commit.Time.After(c.running) {
		c.running = commit.Time
	}
	if !happening {
		return
	}
	if now := c.monotonic(); !c.live || commit.Time.After(c.likely(now)) {
		c.live, c.base, c.since = true, commit.Time, now
	}
}

func (c *Clock) likely(now time.Duration) time.Time { return c.base.Add(now - c.since) }

// Stamp returns the time for a commit, and whether it must be marked suspect.
func (c *Clock) Stamp() (now time.Time, suspect bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamp()
}

func (c *Clock) stamp() (now time.Time, suspect bool) {
	now = c.wall().UTC().Truncate(time.Microsecond)
	ticks := c.monotonic()
	ahead := false
	switch {
	case c.live:
		ahead = now.Sub(c.likely(ticks)) > clockTolerance
	case !c.running.IsZero():
		ahead = now.Sub(c.running) > idleTolerance
	}
	// A clock that jumped because the kernel was told the right time is right.
	if ahead && !c.synchronised() {
		return now, true
	}
	if !c.live || now.After(c.likely(ticks)) {
		c.live, c.base, c.since = true, now, ticks
	}
	return now, false
}

// NewID returns a fresh ID whose time is the running time's, or the wall clock's
// where that is later and not suspect. IDs of one clock only ever grow.
func (c *Clock) NewID() events.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.running
	if now, suspect := c.stamp(); !suspect && now.After(at) {
		at = now
	}
	switch {
	case !at.IsZero():
	case c.live:
		at = c.likely(c.monotonic())
	default:
		at = c.wall()
	}
	c.lastMS = max(c.lastMS, ulid.Timestamp(at))
	id, err := ulid.New(c.lastMS, c.entropy)
	if err != nil { // the 80 random bits of this millisecond overflowed
		c.lastMS++
		id = ulid.MustNew(c.lastMS, c.entropy)
	}
	return events.ID(id)
}

// Running returns the running time; zero when no commit was seen.
func (c *Clock) Running() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

// SinceBoot is a clock that only goes forward, also while the machine sleeps.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// kernelSynchronised asks what adjtimex(2) calls the state of the clock.
func kernelSynchronised() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state != unix.TIME_ERROR
}
