// SPDX-License-Identifier: Apache-2.0

package enrich

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // whatever the machine has

	"pgregory.net/rapid"
)

var night = time.Date(2026, 11, 21, 3, 12, 1, 0, time.UTC)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	berlin := zone(t, "Europe/Berlin")
	hour := time.Hour
	for _, c := range []struct {
		layout, text string
		want         any // a time, or a reason
	}{
		{"", "2026-11-21T03:12:01Z", night},
		{"", "2026-11-21T03:12:01.123456789Z", night.Add(123456789)},
		{"", "2026-11-21T03:12:01.1234567891Z", night.Add(123456789)},
		{"", "2026-11-21T03:12:01,5+01:00", night.Add(hour * -1).Add(500 * time.Millisecond)},
		{"", "2026-11-21T03:12:01.000+0000", night},
		{"", "2026-11-21T03:12:01-05", night.Add(5 * hour)},
		{"", "2026-11-21 04:12:01", night},
		{"", "2026-11-21 04:12:01.25", night.Add(250 * time.Millisecond)},
		{"", "2026/11/21 04:12:01", night},
		{"", " 2026-11-21 03:12:01 UTC ", night},
		{"", "2026-11-21 03:12:01 +0000", night},
		{"", "2026-11-21T03:12Z", night.Add(-time.Second)},
		{"", "2026-11-21 03:12:60Z", night.Add(59 * time.Second)},
		{"", "1795230721", night},
		{"", "1795230721.5", night.Add(500 * time.Millisecond)},
		{"", "1795230721000", night},
		{"", "1795230721123.25", night.Add(123250 * time.Microsecond)},
		{"", "1795230721000001", night.Add(time.Microsecond)},
		{"", "1795230721000000001", night.Add(1)},
		{"", "1.795230721e+09", night},
		{"", "1.7952307215E9", night.Add(500 * time.Millisecond)},
		{"", "Nov 21 04:12:01", night},
		{"", "Nov 21 04:12:01.75", night.Add(750 * time.Millisecond)},
		{"", "Nov 21 2026 04:12:01", night},
		{"", "Nov  1 04:12:01", night.AddDate(0, 0, -20)},
		{"", "Nov 1 04:12:01", night.AddDate(0, 0, -20)},
		{"", "Dec 21 04:12:01", time.Date(2025, 12, 21, 3, 12, 1, 0, time.UTC)},
		{"", "Nov 23 04:12:01", night.AddDate(0, 0, 2)}, // a clock that is ahead, and not last year's
		{"", "Nov 24 04:12:01", time.Date(2025, 11, 24, 3, 12, 1, 0, time.UTC)},
		{"", "Feb 29 01:00:00", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"", "Oct 31 02:30:00", time.Date(2026, 10, 31, 1, 30, 0, 0, time.UTC)}, // it will be twice in 2027
		{"", "Oct 25 02:30:00", timeTwice},
		{"", "21/Nov/2026:03:12:01 +0000", night},
		{"", "[21/Nov/2026:04:12:01 +0100]", night},
		{"02.01.2006 15:04:05", "21.11.2026 04:12:01", night},
		{"02.01.2006 15:04:05", "25.10.2026 02:30:00", timeTwice},
		{"02.01.2006 15:04:05", "29.03.2026 02:30:00", timeNever},
		{"02.01. 15:04:05", "21.11. 04:12:01", night},
		{"02.01. 15:04:05", "24.12. 04:12:01", time.Date(2025, 12, 24, 3, 12, 1, 0, time.UTC)},
		{time.RFC1123Z, "Sat, 21 Nov 2026 03:12:01 +0000", night},
		{time.RFC1123, "Sat, 21 Nov 2026 03:12:01 UTC", night},
		{time.RFC1123, "Sat, 21 Nov 2026 04:12:01 CET", night},
		{time.RFC1123, "Sat, 21 Nov 2026 04:12:01 EST", timeUnread}, // nobody here knows whose
		{time.RFC1123, "2026-11-21T03:12:01Z", timeUnread},
		{"", "2026-10-25 02:30:00", timeTwice},
		{"", "2026-10-25 02:30:00+02:00", time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)},
		{"", "2026-10-25 01:59:59", time.Date(2026, 10, 24, 23, 59, 59, 0, time.UTC)},
		{"", "2026-10-25 03:00:00", time.Date(2026, 10, 25, 2, 0, 0, 0, time.UTC)},
		{"", "2026-03-29 02:30:00", timeNever},
		{"", "2026-03-29 03:30:00", time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)},
		{"", "", timeUnread},
		{"", "-", timeUnread},
		{"", "[]", timeUnread},
		{"", "now", timeUnread},
		{"", "12", timeUnread},
		{"", "20261121", timeUnread},
		{"", "-1795230721", timeUnread},
		{"", "1795230721.", timeUnread},
		{"", "1795230721x", timeUnread},
		{"", "99999999999999999999", timeUnread},
		{"", "1e999", timeUnread},
		{"", "2026-02-29 03:12:01", timeUnread},
		{"", "2026-13-01 03:12:01", timeUnread},
		{"", "2026-11-00 03:12:01", timeUnread},
		{"", "2026-11-21", timeUnread},
		{"", "2026-11-21T24:00:00Z", timeUnread},
		{"", "2026-11-21T03:12:01+24:00", timeUnread},
		{"", "2026-11-21T03:12:01 CET", timeUnread},
		{"", "2026-11-21T03:12:01Zulu", timeUnread},
		{"", "2026-11-21T03:12:01.Z", timeUnread},
		{"", "Nov 31 04:12:01", timeUnread},
		{"", "Nix 21 04:12:01", timeUnread},
		{"", "ovD 21 04:12:01", timeUnread},
		{"", "21/Nov/2026", timeUnread},
	} {
		got, reason := newClock(Clock{Layout: c.layout, Zone: berlin, Now: now}).read(c.text)
		if want, ok := c.want.(time.Time); ok && (reason != "" || !got.Equal(want)) || !ok && reason != c.want {
			t.Errorf("%q %q: %s %q, want %v", c.layout, c.text, got.UTC(), reason, c.want)
		}
	}
}

// Whatever the zone, what clocks showed is understood, or said to be in doubt.
func TestClock_zones(t *testing.T) {
	zones := []*time.Location{time.UTC}
	for _, name := range []string{"Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Kiritimati", "Asia/Kathmandu"} {
		zones = append(zones, zone(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SampledFrom(zones).Draw(t, "zone")
		c := newClock(Clock{Zone: in, Now: night.AddDate(10, 0, 0)})
		for range 20 { // one clock reads many
			moment := time.Unix(rapid.Int64Range(1e9, 1.9e9).Draw(t, "seconds"), 0).In(in)
			if rapid.Bool().Draw(t, "near a change") {
				_, end := moment.ZoneBounds()
				if !end.IsZero() && end.Unix() < 1.9e9 {
					moment = end.Add(time.Duration(rapid.Int64Range(-7200, 7200).Draw(t, "off")) * time.Second).In(in)
				}
			}
			for _, layout := range []string{"2006-01-02 15:04:05", "Jan _2 2006 15:04:05", "02/Jan/2006:15:04:05", time.RFC3339, "2006-01-02 15:04:05 -0700"} {
				text := moment.Format(layout)
				got, reason := c.read(text)
				if reason == timeTwice && !strings.Contains(layout, "07") {
					if other := near(moment, in); other == 0 {
						t.Errorf("%s in %s was not twice", text, in)
					}
					continue
				}
				if reason != "" || !got.Equal(moment) {
					t.Errorf("%s in %s is %s %q, want %s", text, in, got, reason, moment.UTC())
				}
			}
		}
	})
}

// near counts the other moments at which clocks showed the same.
func near(moment time.Time, in *time.Location) int {
	n := 0
	for _, d := range []time.Duration{-time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour} {
		if moment.Add(d).In(in).Format(time.DateTime) == moment.Format(time.DateTime) {
			n++
		}
	}
	return n
}

func FuzzClock(f *testing.F) {
	for _, text := range []string{"2026-11-21T03:12:01.5Z", "1795230721.5", "Nov  1 04:12:01", "[21/Nov/2026:04:12:01 +0100]", "0000-01-01 00:00:00", "9999-12-31T23:59:60+23:59"} {
		f.Add(text)
	}
	c := newClock(Clock{Zone: time.UTC, Now: night})
	f.Fuzz(func(t *testing.T, text string) {
		got, reason := c.read(text)
		if want, err := time.Parse(time.RFC3339Nano, text); err == nil && want.Year() > 0 && reason == "" && !got.Equal(want) {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
		if reason != "" && !got.IsZero() && reason == timeUnread {
			t.Errorf("%q is %q, and %s", text, reason, got)
		}
	})
}

func TestReadAddress(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3": "10.1.2.3", "\t10.1.2.3\r": "10.1.2.3", "10.1.2.3:443": "10.1.2.3", "[10.1.2.3]:443": "10.1.2.3",
		"fd00::1": "fd00::1", "[fd00::1]": "fd00::1", "[fd00::1]:443": "fd00::1", "fe80::1%eth0": "fe80::1", "[fe80::1%eth0]:1": "fe80::1",
		"::ffff:10.1.2.3": "::ffff:10.1.2.3", "[::ffff:10.1.2.3]:53": "::ffff:10.1.2.3",
	} {
		if got, ok := readAddress(text); !ok || got.String() != want {
			t.Errorf("%q is %s %t, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "-", "10.1.2", "10.1.2.3:", "10.1.2.3:http", "10.1.2.3:123456", "[fd00::1", "[fd00::1]x", "example.com", "example.com:80", "10.1.2.3%eth0", "10.1.2.3.4", "01.2.3.4", "10.1.2.3/32"} {
		if got, ok := readAddress(text); ok {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func FuzzReadAddress(f *testing.F) {
	for _, text := range []string{"10.1.2.3:443", "[fd00::1%eth0]:1", "::ffff:1.2.3.4"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		address, ok := readAddress(text)
		if !ok {
			return
		}
		if address.Zone() != "" {
			t.Errorf("%q is %s, with a zone", text, address)
		}
		if again, ok := readAddress(fmt.Sprintf("[%s]:1", address)); !ok || again != address {
			t.Errorf("%q is %s, and with brackets %s", text, address, again)
		}
	})
}
