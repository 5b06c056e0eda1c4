// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"pgregory.net/rapid"

	"github.com/ipamlog/ipamlog/events"
)

// The tolerant decoders are what is right: the canonical readers must agree with
// them in every bit, or leave it to them.

func FuzzCanonicalCommit(f *testing.F) {
	for _, c := range samples() {
		data, err := events.Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, data := range nearlyCanonical(f) {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) { agreeOnCommit(t, data) })
}

func FuzzCanonicalEvent(f *testing.F) {
	for _, c := range samples() {
		for _, e := range c.Events {
			shown, err := events.EncodeEvent(e)
			if err != nil {
				f.Fatal(err)
			}
			f.Add([]byte(shown))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { agreeOnEvent(t, data) })
}

func FuzzCanonicalHeld(f *testing.F) {
	for _, h := range holdings() {
		data, err := events.EncodeGuard(h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, data := range nearlyCanonicalHeld(f) {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) { agreeOnHeld(t, data) })
}

// failer is a test, of the library's or of rapid's.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func agreeOnCommit(t failer, data []byte) {
	t.Helper()
	want, wantErr := events.DecodeAny(data)
	got, err := events.Decode(data)
	agree(t, data, got, want, err, wantErr)
	if read, ok := events.ReadCommit(data); ok && (wantErr != nil || !reflect.DeepEqual(read, want)) {
		t.Fatalf("%s\nwas read as %+v,\nand is %+v (%v)", data, read, want, wantErr)
	}
}

func agreeOnEvent(t failer, data []byte) {
	t.Helper()
	want, wantErr := events.DecodeAnyEvent(data)
	got, err := events.DecodeEvent(data)
	agree(t, data, got, want, err, wantErr)
}

func agreeOnHeld(t failer, data []byte) {
	t.Helper()
	want, wantErr := events.DecodeAnyHeld(data)
	got, err := events.DecodeGuard[events.Held](data)
	agree(t, data, got, want, err, wantErr)
}

func agree(t failer, data []byte, got, want any, err, wantErr error) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s\nwas read as %+v,\nand is %+v", data, got, want)
	}
	switch {
	case (err == nil) != (wantErr == nil), err != nil && err.Error() != wantErr.Error():
		t.Fatalf("%s\nhas the error %v, and not %v", data, err, wantErr)
	case errors.Is(err, events.ErrMalformed) != errors.Is(wantErr, events.ErrMalformed), errors.Is(err, events.ErrNewer) != errors.Is(wantErr, events.ErrNewer):
		t.Fatalf("%s\nhas an error of another kind: %v", data, err)
	}
}

// TestCanonicalEditsAgree takes what is canonical apart and puts it together
// wrongly, where chance alone would seldom leave a sentence that can be read.
func TestCanonicalEditsAgree(t *testing.T) {
	commits, held := nearlyCanonical(t), nearlyCanonicalHeld(t)
	for _, c := range samples() {
		data, err := events.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, string(data))
	}
	pieces := []string{
		"", " ", ",", "}", "]", "[", "{", `"`, `\`, `\u0061`, "\x7f", "\x00", "é", "\xff", "0", "-", "1.0", "1e0", "00", "null", "true", "false", `""`,
		`"host":"h1"`, `"HOST":"h9"`, `"shared":true`, `"shared":false`, `"type":"grant.closed"`, `"later":{"a":[1]}`, `"v":2`, `"events":[]`, `"mac":""`, `"grant":""`,
		`"address":""`, `"kind":"pet"`, `"kind":""`, `"at":"0001-01-01T00:00:00Z"`, `"incarnation":18446744073709551616`, "::ffff:10.0.0.1", "fe80::1%eth0", "fd00::1",
		"0242.0a32.0082", "02-42-0a-32-00-82", "02:42:0A:32:00:82", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "10.0.0.0/33", "2026-11-21T12:00:00+01:00", "2026-11-21T2:00:00Z",
	}
	edited := func(t *rapid.T, seeds []string) string {
		data := rapid.SampledFrom(seeds).Draw(t, "seed")
		for range rapid.IntRange(1, 3).Draw(t, "edits") {
			// Between two marks of the grammar: a name, a value, a piece of either.
			from := mark(t, data, 0)
			to := mark(t, data, from)
			piece := rapid.SampledFrom(pieces).Draw(t, "piece")
			if rapid.Bool().Draw(t, "repeat") {
				piece = data[from:to] + piece + data[from:to]
			}
			data = data[:from] + piece + data[to:]
		}
		return data
	}
	rapid.Check(t, func(t *rapid.T) {
		commit := edited(t, commits)
		agreeOnCommit(t, []byte(commit))
		for _, raw := range eventsIn(commit) {
			agreeOnEvent(t, raw)
		}
		agreeOnHeld(t, []byte(edited(t, held)))
	})
}

// mark draws a place in the text, at or behind a mark of its grammar.
func mark(t *rapid.T, data string, from int) int {
	places := []int{from, len(data)}
	for i := from; i < len(data); i++ {
		if strings.IndexByte(`{}[]:,"`, data[i]) >= 0 {
			places = append(places, i, i+1)
		}
	}
	return rapid.SampledFrom(places).Draw(t, "place")
}

func eventsIn(data string) []json.RawMessage {
	var list struct{ Events []json.RawMessage }
	_ = json.Unmarshal([]byte(data), &list) // what is no commit has none
	return list.Events
}

// nearlyCanonical are commits that differ from what is written in one thing.
func nearlyCanonical(tb testing.TB) []string {
	e, err := events.EncodeEvent(full()["address.allocated"].Events[0])
	if err != nil {
		tb.Fatal(err)
	}
	grant := grantID.String()
	whole := head + `"events":[` + string(e) + `,{"type":"grant.closed","grant":"` + grant + `"}]}`
	list := []string{whole, whole + " ", whole + "{}", whole + "}", " " + whole, whole[:len(whole)-1]}
	return append(list, edits(tb, whole, map[string][]string{
		`"v":1`:             {`"v":2`, `"v":01`, `"V":1`, `"v":1.0`},
		`"host":"h1"`:       {`"host":""`, `"host":null`, `"host":"h\u0031"`, `"host":"h\"1"`, `"host":"h1","host":"h2"`, "\"host\":\"h\x80\"", `"host":"hé"`, "\"host\":\"h\t\""},
		`"incarnation":1`:   {`"incarnation":-1`, `"incarnation":01`, `"incarnation":`, `"incarnation":1e1`, `"incarnation":18446744073709551615`, `"incarnation":18446744073709551616`},
		`12:00:00Z`:         {`12:00:00.1234567Z`, `12:00:00+02:00`},
		`2026-11-21T12`:     {`0001-01-01T00`},
		`"kind":"endpoint"`: {`"kind":"pet"`, `"kind":""`, `"kind":"endpoint","shared":false`},
		`10.50.0.130`:       {`::ffff:10.50.0.130`, `fe80::1%eth0`, `10.50.0.0130`, ``},
		`},{"type"`:         {`}{"type"`, `},,{"type"`},
		`"grant.closed"`:    {`"sun.rose"`, `"grant.closed","grant":"` + grant + `"`},
		`}]`:                {`},]`},
		`"events":[`:        {`"events":[,`},
		`02:42:0a:32:00:82`: {`0242.0a32.0082`, ``, `00:00:00:00:00:00`},
		grant:               notQuiteIDs(grant),
		allocID.String():    notQuiteIDs(allocID.String()),
	})...)
}

// stamped is how times are written.
const stamped = "2006-01-02T15:04:05.999999Z07:00"

// nearlyCanonicalHeld are such guards of an address.
func nearlyCanonicalHeld(tb testing.TB) []string {
	var list []string
	for _, h := range holdings() {
		data, err := events.EncodeGuard(h)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, string(data))
	}
	list = append(list, edits(tb, list[2], map[string][]string{
		`,"suspected":"`:     {`,"Suspected":"`, `,"later":1,"suspected":"`, `,"suspected":null,"suspected":"`, `,"suspected":"2026-11-21T12:00:00Z","suspected":"`},
		noon.Format(stamped): {``, `noon`, `0001-01-01T00:00:00Z`, `2026-11-21T12:00:00+02:00`, `2026-11-21T12:00:00.1234567Z`, `2026-11-21T2:00:00Z`},
	})...)
	return append(list, edits(tb, list[0], map[string][]string{
		`"kind":"endpoint"`:   {`"kind":"pet"`, `"kind":""`, `"kind":"endpoint","shared":false`},
		`,"commit"`:           {`,"later":1,"commit"`, `,"why":"","commit"`},
		`"allocations":[`:     {`"allocations":[,`, `"later":1,"allocations":[`},
		`}]}`:                 {`},]}`, `}],"later":1}`, `}]`, `}]}}`},
		`"host":"h1"`:         {`"HOST":"h1"`, `"host":"h\u0031"`},
		allocID.String():      notQuiteIDs(allocID.String()),
		poolID.String():       notQuiteIDs(poolID.String()),
		`"02:00:00:00:00:01"`: {`""`, `null`, `"02-00-00-00-00-01"`},
	})...)
}

// edits puts other pieces in the place of single pieces of the whole.
func edits(tb testing.TB, whole string, pieces map[string][]string) []string {
	var list []string
	for old, others := range pieces {
		if !strings.Contains(whole, old) {
			tb.Fatalf("%s is not in %s", old, whole)
		}
		for _, other := range others {
			list = append(list, strings.Replace(whole, old, other, 1))
		}
	}
	slices.Sort(list) // a failure is found again by its seed
	return list
}

func notQuiteIDs(id string) []string {
	return []string{"", id[:25], id + "0", strings.ToLower(id), strings.Repeat("0", 26), strings.Repeat("Z", 26), strings.Repeat("!", 26)}
}

func TestNearlyCanonicalAgrees(t *testing.T) {
	for _, data := range nearlyCanonical(t) {
		agreeOnCommit(t, []byte(data))
	}
	for _, data := range nearlyCanonicalHeld(t) {
		agreeOnHeld(t, []byte(data))
	}
}

// TestWhatThereIsMuchOfIsCanonical holds the speed: a field that was added to an
// event, and forgotten in its reader, would make the reader fail for ever.
func TestWhatThereIsMuchOfIsCanonical(t *testing.T) {
	all := samples()
	for _, name := range []string{
		"address.allocated", "address.attributed", "address.released", "address.suspected", "address.cleared", "address.reclaimed", "grant.opened", "grant.closing", "grant.closed", "grant.reopened", "void", "clock-suspect", "kinds", "reasons", "reasons.more",
	} {
		want := all[name]
		for i, e := range want.Events {
			if name == e.Type() { // these are in full()
				everyFieldSet(t, e)
			}
			shown, err := events.EncodeEvent(e)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := events.ReadEvent(shown); !ok || !reflect.DeepEqual(got, e) {
				t.Errorf("%s: event %d, %s, was read as %+v (%v)", name, i, shown, got, ok)
			}
		}
		data, err := events.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := events.ReadCommit(data); !ok {
			t.Errorf("%s: %s was not read", name, data)
		}
	}
	for _, want := range holdings() {
		data, err := events.EncodeGuard(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := events.ReadHeld(data); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s was read as %+v (%v)", data, got, ok)
		}
	}
}

// everyFieldSet sees to it that a sample shows all there is, but for what does
// not go with the rest.
func everyFieldSet(t *testing.T, e events.Event) {
	t.Helper()
	v := reflect.ValueOf(e)
	for field, value := range v.Fields() {
		if value.IsZero() && field.Name != "Extra" && field.Name != "Shared" {
			t.Errorf("the sample of %s has no %s", e.Type(), field.Name)
		}
	}
}

func holdings() []events.Held {
	return []events.Held{
		{{ID: allocID, Kind: events.Endpoint, Host: "h1", Grant: grantID, MAC: events.MAC{2, 0, 0, 0, 0, 1}, Endpoint: "web-1", Commit: poolID}},
		{{ID: allocID, Kind: events.Reserved, Why: "the printer", Commit: poolID}},
		{{ID: allocID, Kind: events.Endpoint, Host: "h1", Commit: poolID, Suspected: noon}},
		{
			{ID: allocID, Kind: events.Gateway, Shared: true, Host: "h1", Grant: grantID, Commit: poolID},
			{ID: poolID, Kind: events.Gateway, Shared: true, Host: "h2", Grant: poolID, Commit: poolID},
		},
	}
}
