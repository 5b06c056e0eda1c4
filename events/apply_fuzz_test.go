// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
)

// FuzzApply: whatever commits stand in a log (a line each), they are folded into guards
// that can be written down, or refused; and what was read before stays as it was.
func FuzzApply(f *testing.F) {
	const (
		pool, grant, one, two = "01KAHR4M5N0000000000000001", "01KAHR4M5N0000000000000002", "01KAHR4M5N0000000000000003", "01KAHR4M5N0000000000000004"
		shared                = `"kind":"gateway","shared":true,"grant":"` + grant + `"`
	)
	story := func(lines ...string) []byte {
		var all [][]byte
		for _, l := range lines {
			all = append(all, []byte(head+`"events":[`+l+`]}`))
		}
		return bytes.Join(all, []byte("\n"))
	}
	created := `{"type":"pool.created","space":"local","subnet":"10.0.0.0/24","gateway":"shared","pick":"serial","quarantine":60}`
	opened := `{"type":"grant.opened","grant":"` + grant + `","host":"h1"}`
	held := func(id, more string) string {
		return `{"type":"address.allocated","allocation":"` + id + `","address":"10.0.0.7",` + more + `}`
	}
	about := func(what, id string) string {
		return `{"type":"address.` + what + `","allocation":"` + id + `","address":"10.0.0.7"}`
	}
	f.Add(story(created+","+opened, held(one, shared)+","+held(two, shared), about("released", one)))
	f.Add(story(created+","+opened, held(one, `"kind":"endpoint"`), about("suspected", one), about("cleared", one), about("suspected", one), about("reclaimed", one)))
	f.Add(story(created+","+opened, `{"type":"grant.closing","grant":"`+grant+`"}`, `{"type":"grant.reopened","grant":"`+grant+`","host":"h1"}`))
	f.Add(story(created+","+opened, `{"type":"grant.closing","grant":"`+grant+`"}`, `{"type":"grant.closed","grant":"`+grant+`"},{"type":"pool.retired","space":"local"}`))
	f.Add(story(`{"type":"host.joined","host":"h1","machine":"m","incarnation":1}`, `{"type":"host.taken-over","host":"h1","incarnation":2,"by":"h2"}`, `{"type":"host.left","host":"h1","incarnation":2}`))
	f.Add(story(created, `{"type":"pool.changed","space":"local","ranges":["10.0.0.1-10.0.0.9"],"kept":true}`, `{"type":"address.reserved","allocation":"`+pool+`","address":"10.0.0.7","why":"x"}`, about("unreserved", pool)))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, revision := events.NewGuards(), int64(0)
		for line := range bytes.Lines(data) {
			commit, err := events.Decode(bytes.TrimSuffix(line, []byte("\n")))
			if err != nil {
				return
			}
			before := map[string]events.Held{}
			kept := map[string][]byte{}
			for a, guard := range g.Held {
				before[a.String()], kept[a.String()] = guard.Value, encoded(t, guard.Value)
			}
			revision++
			err = g.Apply(events.Record{Commit: commit, Revision: revision})
			for a, was := range before {
				if now := encoded(t, was); !bytes.Equal(kept[a], now) {
					t.Fatalf("what was read of %s was changed: %s, and now %s", a, kept[a], now)
				}
			}
			if errors.IsAny(err, events.ErrUnknownEvent, events.ErrContradiction) {
				return
			}
			if err != nil {
				t.Fatalf("refused for no reason that is known: %v", err)
			}
		}
		if g.Pool.Present() {
			rewritten(t, g.Pool.Value)
		}
		for _, guard := range g.Grants {
			rewritten(t, guard.Value)
		}
		for _, guard := range g.Hosts {
			rewritten(t, guard.Value)
		}
		for a, guard := range g.Held {
			if n := len(guard.Value); n == 0 || n > 1 && !guard.Value.Admits(true) {
				t.Errorf("%s is held by %+v", a, guard.Value)
			}
			rewritten(t, guard.Value)
		}
	})
}

func encoded[T events.Pool | events.Grant | events.HostGuard | events.Held](t *testing.T, v T) []byte {
	t.Helper()
	raw, err := events.EncodeGuard(v)
	if err != nil {
		t.Fatalf("%+v cannot be written: %v", v, err)
	}
	return raw
}

// rewritten checks that a guard is the same when it was written and read.
func rewritten[T events.Pool | events.Grant | events.HostGuard | events.Held](t *testing.T, v T) {
	t.Helper()
	raw := encoded(t, v)
	again, err := events.DecodeGuard[T](raw)
	if err != nil {
		t.Fatalf("written as %s, which cannot be read: %v", raw, err)
	}
	if diff := cmp.Diff(raw, encoded(t, again)); diff != "" {
		t.Errorf("changed on the way:\n%s", diff)
	}
}
