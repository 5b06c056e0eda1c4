// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/columns"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

// usual is a holding as most are.
func usual() replay.Holding {
	name, image := "shop-web-1", "nginx:1.27"
	mac, _ := events.ParseMAC("02:42:0a:32:00:06")
	return replay.Holding{
		Holding: projection.Holding{
			Allocation: replaytest.Allocation(1), Address: netip.MustParseAddr("10.50.12.34"), Kind: events.Endpoint, Host: "node-7", MAC: mac,
			Pool: &projection.PoolLife{ID: replaytest.Web, Pool: events.Pool{Name: "shop", Space: events.Local, Subnet: netip.MustParsePrefix("10.50.0.0/16")}},
			From: projection.Mark{Revision: 4711, Time: time.Date(2026, 11, 21, 3, 10, 7, 123_456_000, time.UTC)},
			To:   projection.Mark{Revision: 4712, Time: time.Date(2026, 11, 21, 3, 12, 7, 123_456_000, time.UTC)},
			End:  events.Released,
		},
		Container: &replay.Container{ID: strings.Repeat("4f", 32), Name: &name, Image: &image},
	}
}

func printed[T any](t *testing.T, table render.Table[T], records ...T) string {
	t.Helper()
	var out bytes.Buffer
	if err := table.List(render.Output{Writer: &out, Format: render.FormatTable}, records); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// What people look at most is on one line of a usual terminal.
func TestTables_width(t *testing.T) {
	const terminal = 120
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	x := usual()
	space := func(space events.Space, more ...string) replay.PoolState {
		p := replay.PoolState{PoolLife: &projection.PoolLife{ID: replaytest.Web, Pool: x.Pool.Pool}, Size: big.NewInt(65533), Held: 250, Free: big.NewInt(65283), Hosts: []string{"node-1", "node-2", "node-3"}}
		p.Space, p.Policy = space, events.DefaultPolicy()
		if len(more) > 0 {
			p.Ranges, p.HostRanges, p.Router = []netipx.IPRange{netipx.MustParseIPRange(more[0])}, []netipx.IPRange{netipx.MustParseIPRange(more[1])}, netip.MustParseAddr(more[2])
		}
		return p
	}
	for _, zone := range []*time.Location{time.UTC, berlin} {
		s := session{zone: zone}
		for name, text := range map[string]string{
			"holders": printed(t, s.holders(), x, x),
			"history": printed(t, s.holdings([]replay.Holding{x}), x, x),
			"who":     printed(t, s.sightings(columns.Sighted(replay.Who{Before: &x, After: &x})), columns.Sighted(replay.Who{Before: &x, After: &x})...),
			"pools":   printed(t, s.pools([]replay.PoolState{space(events.Local)}), space(events.Local)),
			"two":     printed(t, s.pools([]replay.PoolState{space(events.Local), space(events.Global)}), space(events.Local), space(events.Global)),
			"laid out": printed(t, s.pools([]replay.PoolState{space(events.Local, "10.50.1.1-10.50.1.200", "10.50.0.5-10.50.0.20", "10.50.0.1")}),
				space(events.Local, "10.50.1.1-10.50.1.200", "10.50.0.5-10.50.0.20", "10.50.0.1")),
		} {
			for line := range strings.Lines(text) {
				room := terminal
				if name == "who" && zone != time.UTC {
					room += len("+01:00") // of holders it does not ask for, with exact times all the same
				}
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > room {
					t.Errorf("%s, %s: %d columns: %s", name, zone, n, line)
				}
			}
		}
	}
}

// What few rows have is shown where one has it, and nothing is shown that could be
// taken for something else.
func TestTables_seldom(t *testing.T) {
	s := session{zone: time.UTC}
	x := usual()
	if text := printed(t, s.holdings([]replay.Holding{x}), x); strings.Contains(text, "END") || !strings.Contains(text, " 2026-11-21T03:10:07.123456Z ") {
		t.Error(text)
	}
	closed := x
	closed.End = events.GrantEnded
	if text := printed(t, s.holdings([]replay.Holding{x, closed}), x, closed); !strings.Contains(text, "END\n") || !strings.Contains(text, "grant-closed\n") {
		t.Error(text)
	}
	gateway := x
	gateway.Container, gateway.Kind = nil, events.Gateway
	unknown := x
	unknown.Container = nil
	sly, name := x, "gateway"
	sly.Container = &replay.Container{Name: &name}
	text := printed(t, s.holders(), gateway, unknown, sly)
	for _, want := range []string{" (gateway) ", " (endpoint) ", " gateway "} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q: %s", want, text)
		}
	}
	for names, want := range map[string]string{
		"": "", "node-7": "node-7", "h1 h2 h3": "h1,h2,h3", "node-1 node-2 node-3": "node-1,+2",
		"a.very.long.name.of.a.host": "a.very.long.name.of.a.host", "a.very.long.name.of.a.host b c": "a.very.long.name.of.a.host,+2",
		"h1 h2 h3 h4 h5 h6 h7": "h1,h2,h3,h4,+3",
	} {
		if got := few(strings.Fields(names)); got != want {
			t.Errorf("%s: %s, want %s", names, got, want)
		}
	}
	for size, want := range map[int64]string{254: "254", 999_999_999_999: "999999999999", 1_000_000_000_000: "1.0e12"} {
		if got := roughly(big.NewInt(size)); got != want {
			t.Errorf("%d: %s, want %s", size, got, want)
		}
	}
}

func TestImage(t *testing.T) {
	sum := strings.Repeat("c0ffee12", 8)
	for asked, want := range map[string]string{
		"nginx":                                    "nginx",
		"nginx:1.27":                               "nginx:1.27",
		"nginx:latest@sha256:" + sum:               "nginx:latest",
		"registry.example:5000/db@sha256:" + sum:   "registry.example:5000/db@sha256:c0ffee12c0ff",
		"registry.example:5000/db:1@sha256:" + sum: "registry.example:5000/db:1",
		"sha256:" + sum:                            "sha256:c0ffee12c0ff",
		"c0ffee12c0ff":                             "c0ffee12c0ff",
		"\x1b@sha256:" + sum + "a":                 "\x1b@sha256:" + sum + "a",
		"@":                                        "@",
	} {
		x := usual()
		x.Container.Image = &asked
		if got := image(x); got != want {
			t.Errorf("%q: %q, want %q", asked, got, want)
		}
	}
}
