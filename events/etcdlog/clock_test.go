// SPDX-License-Identifier: Apache-2.0

package etcdlog_test

import (
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// bent is a machine's time in the hands of a test.
type bent struct {
	wall   time.Time
	mono   time.Duration
	synced bool
}

func (b *bent) clock() *etcdlog.Clock {
	return etcdlog.ClockOn(func() time.Time { return b.wall }, func() time.Duration { return b.mono }, func() bool { return b.synced })
}

// pass lets time go by, for both clocks alike.
func (b *bent) pass(d time.Duration) { b.wall, b.mono = b.wall.Add(d), b.mono+d }

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(t time.Time) events.Commit { return events.Commit{Time: t} }

func TestStampMarksAClockThatIsAhead(t *testing.T) {
	for _, tc := range []struct {
		name    string
		off     time.Duration // of the wall clock, from what the others' say
		later   time.Duration // since the last commit was seen
		suspect bool
	}{
		{"exact", 0, 0, false},
		{"a bit ahead", 10 * time.Second, 0, false},
		{"too far ahead", 10*time.Second + time.Microsecond, 0, true},
		{"in 2038", 12 * 365 * 24 * time.Hour, 0, true},
		{"behind", -time.Hour, 0, false},
		{"a bit ahead after a day", 10 * time.Second, 24 * time.Hour, false},
		{"too far ahead after a day", 11 * time.Second, 24 * time.Hour, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &bent{wall: noon.Add(tc.off), mono: time.Hour}
			c := m.clock()
			c.Seen(at(noon), true)
			m.pass(tc.later)
			now, suspect := c.Stamp()
			if want := noon.Add(tc.off + tc.later); !now.Equal(want) || now.Location() != time.UTC {
				t.Errorf("stamped %s, the wall says %s", now, want)
			}
			if suspect != tc.suspect {
				t.Errorf("suspect: %v", suspect)
			}
		})
	}
}

// A clock that was set right jumps as one that was set wrong does; the kernel
// tells them apart.
func TestStampBelievesASynchronisedClock(t *testing.T) {
	m := &bent{wall: noon, mono: time.Hour}
	c := m.clock()
	c.Seen(at(noon), true)
	m.wall = m.wall.Add(time.Hour)
	if _, suspect := c.Stamp(); !suspect {
		t.Error("a jump was believed")
	}
	m.synced = true
	if _, suspect := c.Stamp(); suspect {
		t.Error("a clock that the kernel calls synchronised was not believed")
	}
	m.synced = false
	m.pass(time.Minute)
	if _, suspect := c.Stamp(); suspect {
		t.Error("what was believed once is held against it")
	}
}

func TestStampOfAMachineThatSawNothingHappen(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for _, tc := range []struct {
		name    string
		read    time.Time // the last commit read from the log; zero: it is empty
		synced  bool
		suspect bool
	}{
		{"an empty log", time.Time{}, false, false},
		{"a log that slept a week", noon.Add(-7 * 24 * time.Hour), false, false},
		{"a log that slept a month", noon.Add(-month), false, false},
		{"a log that slept longer", noon.Add(-month - time.Second), false, true},
		{"the same, and the kernel trusts its clock", noon.Add(-month - time.Second), true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &bent{wall: noon, synced: tc.synced}
			c := m.clock()
			if !tc.read.IsZero() {
				c.Seen(at(tc.read), false)
			}
			if _, suspect := c.Stamp(); suspect != tc.suspect {
				t.Errorf("suspect: %v", suspect)
			}
		})
	}
}

// A daemon that starts with its clock ahead knows better, if one ran before it in the
// same boot.
func TestResume(t *testing.T) {
	const since = 3 * time.Hour // from the last commit of the earlier process
	for _, tc := range []struct {
		name    string
		off     time.Duration // of the wall clock by now, from what it was
		bend    func(*etcdlog.Reading)
		synced  bool
		suspect bool
	}{
		{name: "nothing happened"},
		{name: "a bit ahead", off: 10 * time.Second},
		{name: "behind", off: -time.Hour},
		{name: "too far ahead", off: 11 * time.Second, suspect: true},
		{name: "an hour ahead", off: time.Hour, suspect: true},
		{name: "thirty days ahead", off: 30 * 24 * time.Hour, suspect: true},
		{name: "an hour ahead, and the kernel trusts it", off: time.Hour, synced: true},
		{name: "an hour ahead after a boot", off: time.Hour, bend: func(r *etcdlog.Reading) { r.Boot = "another" }},
		{name: "an hour ahead, of a moment to come", off: time.Hour, bend: func(r *etcdlog.Reading) { r.SinceBoot *= 10 }},
		{name: "an hour ahead, and nothing known", off: time.Hour, bend: func(r *etcdlog.Reading) { *r = etcdlog.Reading{} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &bent{wall: noon, mono: time.Hour}
			earlier := m.clock()
			if r := earlier.Reading(); r != (etcdlog.Reading{}) {
				t.Errorf("a clock that knows nothing hands on %+v", r)
			}
			earlier.Stamp()
			r := earlier.Reading()
			if !r.Time.Equal(noon) || r.SinceBoot != time.Hour || r.Boot == "" {
				t.Fatalf("handed on: %+v", r)
			}
			if tc.bend != nil {
				tc.bend(&r)
			}
			m.pass(since)
			m.wall, m.synced = m.wall.Add(tc.off), tc.synced
			c := m.clock()
			c.Resume(r)
			c.Seen(at(noon), false) // what it reads from the log
			if _, suspect := c.Stamp(); suspect != tc.suspect {
				t.Errorf("suspect: %v", suspect)
			}
		})
	}
	t.Run("what it sees happen counts more", func(t *testing.T) {
		m := &bent{wall: noon, mono: time.Hour}
		earlier := m.clock()
		earlier.Stamp()
		c := m.clock()
		m.wall = m.wall.Add(time.Hour)
		c.Seen(at(m.wall), true)
		c.Resume(earlier.Reading())
		if _, suspect := c.Stamp(); suspect {
			t.Error("it went back to what was handed on")
		}
	})
	t.Run("an ID has the likely time", func(t *testing.T) {
		m := &bent{wall: noon, mono: time.Hour}
		earlier := m.clock()
		earlier.Stamp()
		m.pass(time.Minute)
		m.wall = m.wall.Add(time.Hour)
		c := m.clock()
		c.Resume(earlier.Reading())
		if id := c.NewID(); !id.Time().Equal(noon.Add(time.Minute)) {
			t.Errorf("it says %s", id.Time())
		}
	})
}

// One host that lives in 2038 spoils nothing.
func TestMarkedCommitsDoNotPushTheRunningTime(t *testing.T) {
	m := &bent{wall: noon, mono: time.Hour}
	c := m.clock()
	if !c.Running().IsZero() {
		t.Error("a running time before any commit")
	}
	c.Seen(at(noon), true)
	future := at(time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC))
	future.ClockSuspect = true
	c.Seen(future, true)
	c.Seen(future, false)
	if got := c.Running(); !got.Equal(noon) {
		t.Errorf("the running time is %s", got)
	}
	if _, suspect := c.Stamp(); suspect {
		t.Error("the honest clock is suspected")
	}
	if id := c.NewID(); !id.Time().Equal(noon) {
		t.Errorf("an ID of %s", id.Time())
	}
}

func TestRunningTimeNeverGoesBack(t *testing.T) {
	c := (&bent{wall: noon}).clock()
	for _, step := range []struct{ seen, want time.Duration }{{0, 0}, {time.Second, time.Second}, {-time.Hour, time.Second}, {2 * time.Second, 2 * time.Second}} {
		c.Seen(at(noon.Add(step.seen)), true)
		if want := noon.Add(step.want); !c.Running().Equal(want) {
			t.Errorf("after %s: %s, want %s", step.seen, c.Running(), want)
		}
	}
}

// A commit that comes late does not make the others' clocks look slow.
func TestLateCommitsDoNotMoveTheExpectation(t *testing.T) {
	m := &bent{wall: noon, mono: time.Hour}
	c := m.clock()
	c.Seen(at(noon), true)
	m.pass(time.Minute)
	c.Seen(at(noon.Add(5*time.Second)), true) // on its way for 55 s
	if _, suspect := c.Stamp(); suspect {
		t.Error("the clock is suspected because another's commit was slow")
	}
}

func TestNewID(t *testing.T) {
	for _, tc := range []struct {
		name          string
		wall, running time.Duration // from noon
		want          time.Duration
	}{
		{"the wall clock where it is later", 5 * time.Second, 0, 5 * time.Second},
		{"the running time where that is later", -time.Hour, 0, 0},
		{"never a suspect wall clock", time.Hour, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &bent{wall: noon.Add(tc.wall), mono: time.Hour}
			c := m.clock()
			c.Seen(at(noon.Add(tc.running)), true)
			if id := c.NewID(); !id.Time().Equal(noon.Add(tc.want)) {
				t.Errorf("it says %s", id.Time())
			}
		})
	}
	t.Run("grows, whatever the wall clock does", func(t *testing.T) {
		m := &bent{wall: noon}
		c := m.clock()
		last := c.NewID()
		for i := range 5000 {
			switch i % 1000 {
			case 0:
				m.wall = m.wall.Add(-time.Hour)
			case 500:
				m.wall = m.wall.Add(2 * time.Hour)
			}
			id := c.NewID()
			if id.Compare(last) <= 0 {
				t.Fatalf("%s after %s", id, last)
			}
			last = id
		}
	})
}

func TestTheMachinesClock(t *testing.T) {
	before := time.Now().UTC().Truncate(time.Microsecond)
	now, suspect := etcdlog.NewClock().Stamp()
	if now.Before(before) || now.Sub(before) > time.Minute || suspect {
		t.Errorf("stamped %s (%v) at %s", now, suspect, before)
	}
}
