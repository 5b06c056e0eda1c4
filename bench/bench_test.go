// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/events"
)

// sideOf has a round for each rate, of requests that take a millisecond for each
// thousand of them.
func sideOf(what string, rates ...float64) *side {
	s := &side{what: what}
	for _, r := range rates {
		took := time.Duration(r * float64(time.Microsecond))
		s.samples = append(s.samples, sample{rate: r, p50: took, p99: 2 * took, cpu: took / 2, requests: 1})
	}
	return s
}

func TestRatiosAreThoseOfEachRound(t *testing.T) {
	got := sideOf("ours", 100, 300, 200).to(sideOf("puts", 200, 200, 1000), rate)
	if want := (spread{Median: 0.5, Least: 0.2, Most: 1.5}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestOthers: a factor is the quotient of two ratios to bare puts.
func TestOthers(t *testing.T) {
	puts := sideOf("bare puts", 1000, 1000, 1000)
	rows := []row{
		{who: "1", side: puts},
		{who: "1", side: sideOf("the actor, empty /16", 500, 1000, 1500), base: puts},
		{who: "16 hosts", side: puts},
		{who: "16 hosts", side: sideOf("ipamlog, a host each, one pool", 250, 250, 250), base: puts},
	}
	got := othersBeside(rows)
	want := []beaten{
		// Its 1,120 of 2,900 to 3,800 puts, ours as many as the puts, half, and half more.
		{Name: others[0].name, By: "the actor", Factor: map[string]spread{callers1: {Median: 3_350. / 1_120, Least: .5 * 2_900 / 1_120, Most: 1.5 * 3_800 / 1_120}}},
		{Name: others[1].name, By: "the actor", Factor: map[string]spread{callers1: {Median: 3_350. / 920, Least: .5 * 2_900 / 920, Most: 1.5 * 3_800 / 920}}},
		{Name: others[2].name, By: "the actor", Factor: map[string]spread{callers1: {Median: 3_350. / 320, Least: .5 * 2_900 / 320, Most: 1.5 * 3_800 / 320}}},
		{Name: others[2].name, By: "ipamlog", Factor: map[string]spread{hosts16: {Median: .25 * 7_800 / 830, Least: .25 * 5_000 / 830, Most: .25 * 10_600 / 830}}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var out strings.Builder
	if err := writeOthers(&out, got); err != nil {
		t.Fatal(err)
	}
	if want := "× 2.35 (1.51 to 3.19)"; !strings.Contains(out.String(), want) {
		t.Errorf("the table has no %q:\n%s", want, &out)
	}
}

func TestReportIsKept(t *testing.T) {
	puts := sideOf("bare puts", 1000)
	ours := row{who: "1", side: sideOf("ours", 2000), base: puts, aims: []aim{rateAtLeast(2)}}
	r := &report{Rounds: 1, Table: tableOf([]row{{who: "1", side: puts}, ours})}
	name := filepath.Join(t.TempDir(), "report.json")
	if err := r.keep(name); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Table []struct {
			Clients, What string
			Figures       map[string]struct{ Median float64 }
			Ratios        map[string]struct{ Median, Least, Most float64 }
			Aims          []string
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Table) != 2 || got.Table[1].Figures["rate"].Median != 2000 || got.Table[1].Ratios["rate"].Least != 2 ||
		got.Table[1].Aims[0] != "rate ≥ 2: met" || got.Table[0].Ratios != nil {
		t.Errorf("got %+v", got.Table)
	}
}

func TestCurveIsDrawn(t *testing.T) {
	c := newCurve("log", "A request", "events")
	c.log = true
	for _, x := range []float64{1e4, 1e5, 1e6} {
		for i := range c.series {
			c.add(i, point{x, sideOf("ours", 300, 200), sideOf("puts", 100, 100)})
		}
	}
	dir := t.TempDir()
	if err := c.draw(dir); err != nil {
		t.Fatal(err)
	}
	drawn, err := os.ReadFile(filepath.Join(dir, "log.svg"))
	if err != nil || !strings.Contains(string(drawn), "</svg>") {
		t.Errorf("no picture was drawn: %v", err)
	}
	if err := c.table(dir); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "log.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10000", "p50, 1 client", "2.5000", "2.0000", "3.0000", "0.000250", "0.000100"}
	if len(lines) != 10 || !cmp.Equal(lines[1], want) {
		t.Errorf("got %q, want 10 lines, the second %q", lines, want)
	}
}

// TestCrowd: what is written in bulk is pools with so many held addresses, all of one host.
func TestCrowd(t *testing.T) {
	guards := map[events.Stream]*events.Guards{}
	n := int64(0)
	for c := range (crowd{pools: 3, held: 750}).commits() {
		if guards[c.Stream] == nil {
			g := events.NewGuards()
			guards[c.Stream] = &g
		}
		n++
		if err := guards[c.Stream].Apply(events.Record{Commit: c, Revision: n}); err != nil {
			t.Fatal(err)
		}
	}
	if len(guards) != 3 {
		t.Errorf("there are %d pools", len(guards))
	}
	for stream, g := range guards {
		if len(g.Held) != 250 || len(g.Grants) != 1 {
			t.Errorf("pool %s has %d addresses and %d grants", stream, len(g.Held), len(g.Grants))
		}
	}
}

func TestOneHostHasDoneEverything(t *testing.T) {
	opened, allocated := 0, 0
	for c := range byOneHost((bulk.Story{Events: 5_000, Held: 500}).Commits()) {
		host := c.Host
		for _, e := range c.Events {
			switch e := e.(type) {
			case events.GrantOpened:
				host = e.Host
				opened++
			case events.AddressAllocated:
				host = e.Host
				allocated++
			default: // says nothing of who did it
			}
			if host != startHost || c.Host != startHost {
				t.Fatalf("%T is of %s, in a commit of %s", e, host, c.Host)
			}
		}
	}
	if opened < 60 || allocated < 1000 {
		t.Errorf("too little happened: %d grants, %d allocations", opened, allocated)
	}
}

// TestCPUTime: it is this process' and goes on as it works.
func TestCPUTime(t *testing.T) {
	before, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		now, err := cpuOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if before > 0 && now > before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it stays %v", now)
		}
	}
	if _, err := cpuOf(1 << 23); err == nil {
		t.Error("there is a process with a number larger than any")
	}
	if resident, err := residentOf(os.Getpid()); err != nil || resident < 1<<20 {
		t.Errorf("this process has %.0f bytes: %v", resident, err)
	}
}

func TestShort(t *testing.T) {
	f := flags{clients: []int{256}, pools: []string{"10.0.0.0/24"}, duration: time.Hour}
	f.shorten(func(flag string) bool { return flag == "clients" })
	if !cmp.Equal(f.clients, []int{256}) || f.pools != nil || f.duration >= time.Second {
		t.Errorf("got %+v", f)
	}
}
