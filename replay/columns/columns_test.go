// SPDX-License-Identifier: Apache-2.0

package columns_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/columns"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

// cells are a record's values by the columns' names, each of which there is once.
func cells[T any](t *testing.T, list []render.Column[T], record T) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, c := range list {
		if _, twice := values[c.Name]; twice {
			t.Errorf("there are two columns %q", c.Name)
		}
		values[c.Name] = c.Value(record)
	}
	return values
}

func holding() replay.Holding {
	return replay.Holding{Holding: projection.Holding{
		Allocation: replaytest.Allocation(1), Address: netip.MustParseAddr("10.50.0.2"), Kind: events.Endpoint,
		Pool: &projection.PoolLife{ID: replaytest.Web},
		From: projection.Mark{Revision: 7, Time: replaytest.Clock(10, 0)},
	}}
}

// What little is known of is no trouble, and no zero value shows.
func TestHoldings_unknown(t *testing.T) {
	got := cells(t, columns.Holdings(), holding())
	for name, value := range got {
		if value == "" {
			delete(got, name)
		}
	}
	want := map[string]string{
		"allocation": replaytest.Allocation(1).String(), "address": "10.50.0.2", "pool_id": replaytest.Web.String(), "kind": "endpoint",
		"from": "2025-03-01T03:10:00.000000Z", "from_revision": "7", "clock_suspect": "false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A doubt whose ends are open is not the same as none, and each row of an answer
// says what the answer's JSON says.
func TestSighted_doubt(t *testing.T) {
	at := func(minutes int) time.Time { return replaytest.Clock(minutes, 0) }
	doubtful := func(from, to time.Time) replay.Holding {
		x := holding()
		x.Doubt = &replay.Doubt{From: from, To: to}
		return x
	}
	never := time.Time{}
	for name, test := range map[string]struct {
		doubts []replay.Holding
		want   [3]string
	}{
		"none":               {nil, [3]string{"", "", ""}},
		"one":                {[]replay.Holding{doubtful(at(1), at(2))}, [3]string{"true", "2025-03-01T03:01:00.000000Z", "2025-03-01T03:02:00.000000Z"}},
		"no beginning":       {[]replay.Holding{doubtful(never, at(2))}, [3]string{"true", "", "2025-03-01T03:02:00.000000Z"}},
		"no end":             {[]replay.Holding{doubtful(at(1), never)}, [3]string{"true", "2025-03-01T03:01:00.000000Z", ""}},
		"neither":            {[]replay.Holding{doubtful(never, never)}, [3]string{"true", "", ""}},
		"two":                {[]replay.Holding{doubtful(at(2), at(5)), doubtful(at(1), at(3))}, [3]string{"true", "2025-03-01T03:01:00.000000Z", "2025-03-01T03:05:00.000000Z"}},
		"two that are open":  {[]replay.Holding{doubtful(at(2), never), doubtful(never, at(3))}, [3]string{"true", "", ""}},
		"open and then more": {[]replay.Holding{doubtful(at(2), never), doubtful(at(1), at(3))}, [3]string{"true", "2025-03-01T03:01:00.000000Z", ""}},
	} {
		x := holding()
		who := replay.Who{Address: x.Address, Before: &x, After: &x, Doubts: test.doubts}
		var told struct {
			Doubt *struct {
				From, To string
			} `json:"clock_doubt"`
		}
		raw, err := json.Marshal(who)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &told); err != nil {
			t.Fatal(err)
		}
		var said [3]string
		if told.Doubt != nil {
			said = [3]string{"true", told.Doubt.From, told.Doubt.To}
		}
		rows := columns.Sighted(who)
		if len(rows) != 2 || rows[0].When != columns.Before || rows[1].When != columns.After {
			t.Fatalf("%s: %v", name, rows)
		}
		for _, row := range rows {
			values := cells(t, columns.Sightings(columns.Holdings()), row)
			got := [3]string{values["clock_doubt"], values["clock_doubt_from"], values["clock_doubt_to"]}
			if got != test.want || got != said {
				t.Errorf("%s: %q, want %q, and JSON says %q", name, got, test.want, said)
			}
		}
	}
	x := holding()
	if rows := columns.Sighted(replay.Who{Holdings: []replay.Holding{x, x}}); len(rows) != 2 || rows[1].When != columns.Held {
		t.Errorf("%v", rows)
	}
}

// Who was there before stands in columns of his own, and so does who came after.
func TestChanges(t *testing.T) {
	before := holding()
	before.Host = "h1"
	list := columns.Changes(columns.Holdings())
	got := cells(t, list, replay.Change{Address: before.Address, Change: replay.Lost, Before: &before})
	if got["before_host"] != "h1" || got["before_clock_suspect"] != "false" || got["after_host"] != "" || got["after_clock_suspect"] != "" || got["change"] != "lost" {
		t.Errorf("%v", got)
	}
	if n := 2 + 2*(len(columns.Holdings())-1); len(list) != n {
		t.Errorf("%d columns, want %d", len(list), n)
	}
}

// Whoever gets a list may change it.
func TestHoldings_own(t *testing.T) {
	columns.Holdings()[0].Name = "mine"
	if columns.Holdings()[0].Name != "allocation" {
		t.Error("the list is shared")
	}
}
