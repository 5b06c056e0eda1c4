// SPDX-License-Identifier: Apache-2.0

package timespec_test

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests do not hang on what the machine has

	"github.com/ipamlog/ipamlog/replay/timespec"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// saturday is the moment of most tests: Saturday 2026-11-21 10:00:00.5 in
// Berlin, 09:00:00.5Z.
func saturday(t testing.TB) time.Time {
	t.Helper()
	return time.Date(2026, 11, 21, 10, 0, 0, 500_000_000, zone(t, "Europe/Berlin"))
}

func TestParse(t *testing.T) {
	for input, want := range map[string]string{
		"@4711":                "@4711",
		"  @1 ":                "@1",
		"@9223372036854775807": "@9223372036854775807",

		"now":     "2026-11-21T10:00:00.5+01:00",
		" NOW ":   "2026-11-21T10:00:00.5+01:00",
		"-2h":     "2026-11-21T08:00:00.5+01:00",
		"-90m":    "2026-11-21T08:30:00.5+01:00",
		"-1h30m":  "2026-11-21T08:30:00.5+01:00",
		"-0.5s":   "2026-11-21T10:00:00+01:00",
		"-1000h":  "2026-10-10T19:00:00.5+02:00",
		"2h ago":  "2026-11-21T08:00:00.5+01:00",
		"-1.5h":   "2026-11-21T08:30:00.5+01:00",
		"-1500ms": "2026-11-21T09:59:59+01:00",

		"1 second ago":   "2026-11-21T09:59:59.5+01:00",
		"90 minutes ago": "2026-11-21T08:30:00.5+01:00",
		"3 hours ago":    "2026-11-21T07:00:00.5+01:00",
		"2 days ago":     "2026-11-19T10:00:00.5+01:00",
		"1 week ago":     "2026-11-14T10:00:00.5+01:00",
		"60 days ago":    "2026-09-22T10:00:00.5+02:00",

		"2026-11-21T03:12:05Z":                "2026-11-21T03:12:05Z",
		"2026-11-21t03:12:05z":                "2026-11-21T03:12:05Z",
		"2026-11-21T03:12:05.123456789+05:30": "2026-11-21T03:12:05.123456789+05:30",
		"2026-11-21T03:12:05-11:00":           "2026-11-21T03:12:05-11:00",
		"2026-11-21T03:12:05":                 "2026-11-21T03:12:05+01:00",
		"2026-11-21T03:12":                    "2026-11-21T03:12:00+01:00",
		"2026-11-21 03:12":                    "2026-11-21T03:12:00+01:00",
		"2026-07-21 03:12":                    "2026-07-21T03:12:00+02:00",
		"2026-11-21  03:12:05 ":               "2026-11-21T03:12:05+01:00",
		"2026-11-21 03:12 UTC":                "2026-11-21T03:12:00Z",
		"2026-11-21 03:12Z":                   "2026-11-21T03:12:00Z",
		"2026-11-21 03:12 +00:00":             "2026-11-21T03:12:00Z",
		"2026-11-21":                          "2026-11-21T00:00:00+01:00",
		"2030-01-01":                          "2030-01-01T00:00:00+01:00",

		"03:12":           "2026-11-21T03:12:00+01:00",
		"3:12":            "2026-11-21T03:12:00+01:00",
		"03:12:05.25":     "2026-11-21T03:12:05.25+01:00",
		"23:59":           "2026-11-21T23:59:00+01:00",
		"03:12 UTC":       "2026-11-21T03:12:00Z",
		"03:12+01:00":     "2026-11-21T03:12:00+01:00",
		"23:30 -11:00":    "2026-11-20T23:30:00-11:00",
		"today":           "2026-11-21T00:00:00+01:00",
		"today 03:12":     "2026-11-21T03:12:00+01:00",
		"yesterday":       "2026-11-20T00:00:00+01:00",
		"yesterday 03:12": "2026-11-20T03:12:00+01:00",

		"Yesterday at 03:12 UTC": "2026-11-20T03:12:00Z",
		"yesterday 23:30 -11:00": "2026-11-19T23:30:00-11:00",

		"last tuesday 03:12":    "2026-11-17T03:12:00+01:00",
		"last tuesday at 03:12": "2026-11-17T03:12:00+01:00",
		"tuesday 03:12":         "2026-11-17T03:12:00+01:00",
		"Tue 03:12":             "2026-11-17T03:12:00+01:00",
		"tuesday":               "2026-11-17T00:00:00+01:00",
		"saturday 09:59":        "2026-11-21T09:59:00+01:00",
		"saturday 10:01":        "2026-11-14T10:01:00+01:00",
		"saturday":              "2026-11-21T00:00:00+01:00",
		"last saturday 09:59":   "2026-11-14T09:59:00+01:00",
		"last saturday":         "2026-11-14T00:00:00+01:00",
		"sunday 10:00":          "2026-11-15T10:00:00+01:00",
		"friday 23:59 UTC":      "2026-11-20T23:59:00Z",

		"-2d":                        "2026-11-19T10:00:00.5+01:00",
		"-1w":                        "2026-11-14T10:00:00.5+01:00",
		"5 min ago":                  "2026-11-21T09:55:00.5+01:00",
		"an hour ago":                "2026-11-21T09:00:00.5+01:00",
		"a week ago":                 "2026-11-14T10:00:00.5+01:00",
		"2026-11-21 03:12:07 +0100":  "2026-11-21T03:12:07+01:00",
		"21/Nov/2026:03:12:07 +0000": "2026-11-21T03:12:07Z",
		"Nov 21 03:12:07":            "2026-11-21T03:12:07+01:00",
		"Nov  1 03:12:07":            "2026-11-01T03:12:07+01:00",
		"Nov 22 03:12:07":            "2025-11-22T03:12:07+01:00",
		"Dec 31 23:59:59.5":          "2025-12-31T23:59:59.5+01:00",
	} {
		got, err := timespec.Parse(input, saturday(t), zone(t, "Europe/Berlin"))
		if err != nil {
			t.Errorf("%q: %v", input, err)
		} else if got.String() != want {
			t.Errorf("%q: got %s, want %s", input, got, want)
		}
	}
}

func TestParse_refused(t *testing.T) {
	const examples = "write one such as"
	for input, want := range map[string]string{
		"":                           examples,
		" ":                          examples,
		"banana":                     examples,
		"at":                         examples,
		"last":                       examples,
		"Z":                          examples,
		"2026":                       `did you mean "@2026"?`,
		"4711":                       `did you mean "@4711"?`,
		"2h":                         `did you mean "2h ago"?`,
		"90m":                        `did you mean "90m ago"?`,
		"2 days":                     `did you mean "2 days ago"?`,
		"last tusday 03:12":          `did you mean "last tuesday 03:12"?`,
		"yesteday 03:12":             `did you mean "yesterday 03:12"?`,
		"nwo":                        `did you mean "now"?`,
		"2 dasy ago":                 `did you mean "2 days ago"?`,
		"tuesday at":                 examples,
		"now please":                 examples,
		"2026-11-21 03:12 banana":    examples,
		"2026-11-21 03:12 CET":       examples,
		"2026-11-2103:12":            examples,
		"2026-11-21Z":                examples,
		"2026-11-21 at 03:12":        examples,
		"2026-11-17 03":              examples,
		"2026-11-21T":                examples,
		"todayT03:12":                examples,
		"T03:12":                     examples,
		"03:1":                       examples,
		"03:12:5":                    examples,
		"-2x":                        examples,
		"nov 31 03:12":               "there is no day",
		"31/foo/2026:03:12:00 +0000": examples,
		"-":                          examples,
		"--2h":                       examples,
		"+2h":                        examples,
		"-2h30":                      examples,
		"-99999999999999999999h":     examples,
		"2 months ago":               examples,
		"ago":                        examples,
		"next tuesday 03:12":         examples,
		"@":                          "is no revision",
		"@0":                         "is no revision",
		"@-1":                        "is no revision",
		"@+1":                        "is no revision",
		"@1.2":                       "is no revision",
		"@1 2":                       "is no revision",
		"@9223372036854775808":       "is no revision",
		"2026-02-30":                 "there is no day 2026-02-30",
		"2026-13-01 03:12":           "there is no day 2026-13-01",
		"24:00":                      "no clock shows 24:00",
		"23:60":                      "no clock shows 23:60",
		"23:59:60":                   "no clock shows 23:59:60",
		"03:12 +24:00":               "no zone is +24:00 from UTC",
		"03:12 +01:60":               "no zone is +01:60 from UTC",
		"1969-12-31 23:00Z":          "outside the years 1970 to 9999",
		"-999999h":                   "outside the years 1970 to 9999",
		"999999 days ago":            "outside the years 1970 to 9999",
		"999999 weeks ago":           "outside the years 1970 to 9999",
		"0000-01-01":                 "outside the years 1970 to 9999",
		"\x1b[2J":                    `"\x1b[2J" is not understood`,
	} {
		got, err := timespec.Parse(input, saturday(t), zone(t, "Europe/Berlin"))
		if err == nil {
			t.Errorf("%q: understood as %s", input, got)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q does not have %q", input, err, want)
		}
	}
}

func TestParse_clockChanges(t *testing.T) {
	for _, test := range []struct {
		zone, now, input, want string
	}{
		{"Europe/Berlin", "2026-11-21T10:00:00Z", "2026-03-29 02:30", `the time "2026-03-29 02:30" never was, for clocks were put forward; write 2026-03-29T01:30:00+01:00 or 2026-03-29T03:30:00+02:00`},
		{"Europe/Berlin", "2026-11-21T10:00:00Z", "2026-10-25 02:30", `the time "2026-10-25 02:30" was twice, for clocks were put back; write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00`},
		{"Europe/Berlin", "2026-11-21T10:00:00Z", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"Europe/Berlin", "2026-11-21T10:00:00Z", "2026-10-25 03:00", "2026-10-25T03:00:00+01:00"},
		{"Europe/Berlin", "2026-11-21T10:00:00Z", "2026-10-25 01:59:59.999999999", "2026-10-25T01:59:59.999999999+02:00"},
		{"Europe/Berlin", "2026-11-21T10:00:00Z", "2026-03-29 03:00", "2026-03-29T03:00:00+02:00"},
		{"Europe/Berlin", "2026-10-25T10:00:00Z", "02:30", "was twice"},
		{"Europe/Berlin", "2026-10-26T10:00:00Z", "yesterday 02:30", "was twice"},
		{"Europe/Berlin", "2026-10-26T10:00:00Z", "sunday 02:30", "was twice"},
		{"Europe/Berlin", "2026-10-27T01:30:00Z", "2 days ago", "was twice"},
		{"Europe/Berlin", "2026-10-25T10:00:00Z", "-12h", "2026-10-25T00:00:00+02:00"},
		{"Europe/Berlin", "2026-11-21T10:00:00Z", "2044-12-31 12:00", "2044-12-31T12:00:00+01:00"},
		{"Europe/Berlin", "2026-11-21T10:00:00Z", "2044-12-31", "2044-12-31T00:00:00+01:00"},
		{"America/Sao_Paulo", "2020-01-01T12:00:00Z", "2018-11-04", "2018-11-04T01:00:00-02:00"},
		{"America/Sao_Paulo", "2020-01-01T12:00:00Z", "2018-11-04 00:00", "never was"},
		{"America/Havana", "2026-11-21T10:00:00Z", "2025-11-02", "2025-11-02T00:00:00-04:00"},
		{"America/Havana", "2026-11-21T10:00:00Z", "2025-11-02 00:00", "was twice"},
		{"Pacific/Apia", "2026-11-21T10:00:00Z", "2011-12-30", "never was"},
		{"Pacific/Apia", "2026-11-21T10:00:00Z", "2011-12-30 12:00", "write 2011-12-29T12:00:00-10:00 or 2011-12-31T12:00:00+14:00"},
		{"Australia/Lord_Howe", "2026-11-21T10:00:00Z", "2026-10-04 02:15", "write 2026-10-04T01:45:00+10:30 or 2026-10-04T02:45:00+11:00"},
		{"Africa/Monrovia", "2026-11-21T10:00:00Z", "1971-06-01 12:00", "1971-06-01T12:44:30Z"},
	} {
		now, err := time.Parse(time.RFC3339, test.now)
		if err != nil {
			t.Fatal(err)
		}
		got, err := timespec.Parse(test.input, now, zone(t, test.zone))
		text := got.String()
		if err != nil {
			text = err.Error()
		}
		if text != test.want && (err == nil || !strings.Contains(text, test.want)) {
			t.Errorf("%s %q: got %s, want %s", test.zone, test.input, text, test.want)
		}
	}
}

func TestParse_noLocationIsLocal(t *testing.T) {
	now := time.Now()
	got, err := timespec.Parse("now", now, nil)
	if err != nil || !got.Time.Equal(now) || got.Time.Location() != time.Local {
		t.Errorf("got %v, %v; want %v", got, err, now)
	}
}

// Whatever the input: no panic, one sentence when it is refused, and what was
// understood is understood the same when written back.
func FuzzParse(f *testing.F) {
	zones := []*time.Location{
		time.UTC, zone(f, "Europe/Berlin"), zone(f, "America/Havana"), zone(f, "Pacific/Apia"),
		zone(f, "Africa/Monrovia"), zone(f, "Asia/Kathmandu"),
	}
	for i, seed := range []string{
		"@4711", "now", "-1h30m", "2 days ago", "2026-11-21T03:12:05.5+05:30", "2026-10-25 02:30",
		"1971-06-01 12:00", "last tusday at 03:12 UTC", "yesterday", "9999-12-31 23:59 -11:00", "2011-12-30",
	} {
		f.Add(seed, int64(1_795_251_600), i)
	}
	f.Fuzz(func(t *testing.T, input string, unix int64, which int) {
		const year9999 = 253_370_764_800
		now := time.Unix(max(min(unix, year9999), 0), 123)
		loc := zones[((which%len(zones))+len(zones))%len(zones)]
		got, err := timespec.Parse(input, now, loc)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 900 {
				t.Errorf("%q: error is not one sentence: %q", input, err)
			}
			return
		}
		again, err := timespec.Parse(got.String(), now.Add(time.Hour), time.UTC)
		if err != nil {
			t.Fatalf("%q was understood as %s, and that is not: %v", input, got, err)
		}
		if again.Revision != got.Revision || !again.Time.Equal(got.Time) {
			t.Fatalf("%q was understood as %s, and that as %s", input, got, again)
		}
	})
}
