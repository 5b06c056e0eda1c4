// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// nextDay is all there is to tell.
func nextDay(t *testing.T) *replay.Journal {
	t.Helper()
	store := replaytest.Start(t)
	teller := store.Tell(t, prefix)
	teller.Night()
	teller.Morning()
	teller.NextDay()
	return load(t, etcdlog.New(store.Client, prefix))
}

func documents(t *testing.T, j *replay.Journal) []byte {
	t.Helper()
	var out bytes.Buffer
	for e := range j.Events(nil, everything(j)) {
		doc, err := j.ECS(e)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(raw, '\n'))
	}
	return out.Bytes()
}

// Every type of event there is, in the words of the schema.
func TestHistory_ECS(t *testing.T) {
	j := nextDay(t)
	got := documents(t, j)
	path := filepath.Join("testdata", "morning.ecs.jsonl")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	told := map[string]bool{}
	for e := range j.Events(nil, everything(j)) {
		told[e.Event().Type()] = true
	}
	for _, name := range []string{
		events.TypePoolCreated, events.TypePoolChanged, events.TypePoolRetired, events.TypePoolExhausted,
		events.TypeGrantOpened, events.TypeGrantClosing, events.TypeGrantClosed, events.TypeGrantReopened,
		events.TypeAddressAllocated, events.TypeAddressAttributed, events.TypeAddressReleased,
		events.TypeAddressSuspected, events.TypeAddressCleared, events.TypeAddressReclaimed, events.TypeAddressConflicted,
		events.TypeAddressReserved, events.TypeAddressUnreserved,
		events.TypeHostJoined, events.TypeHostLeft, events.TypeHostAdopted, events.TypeHostTakenOver,
	} {
		if !told[name] {
			t.Errorf("the story has no %s", name)
		}
	}
}

// What the schema promises of its own fields.
func TestHistory_ECS_schema(t *testing.T) {
	categories := map[string][]string{
		"network":       {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
		"configuration": {"access", "change", "creation", "deletion", "info"},
		"host":          {"access", "change", "end", "info", "start"},
	}
	ids := map[string]bool{}
	for line := range bytes.Lines(documents(t, nextDay(t))) {
		var doc struct {
			Timestamp string `json:"@timestamp"`
			Event     struct {
				ID, Kind, Outcome string
				Category, Type    []string
				Original          json.RawMessage
			}
			Client struct{ MAC string }
		}
		if err := json.Unmarshal(line, &doc); err != nil {
			t.Fatal(err)
		}
		if ids[doc.Event.ID] {
			t.Errorf("two events are %s", doc.Event.ID)
		}
		ids[doc.Event.ID] = true
		when, err := time.Parse(time.RFC3339Nano, doc.Timestamp)
		if err != nil || when.Before(replaytest.Night) || when.After(replaytest.Night.Add(48*time.Hour)) {
			t.Errorf("@timestamp %s: %v", doc.Timestamp, err)
		}
		if len(doc.Event.Category) != 1 || len(doc.Event.Type) != 1 || !slices.Contains(categories[doc.Event.Category[0]], doc.Event.Type[0]) {
			t.Errorf("category %v, type %v", doc.Event.Category, doc.Event.Type)
		}
		var original string
		if err := json.Unmarshal(doc.Event.Original, &original); err != nil || !json.Valid([]byte(original)) {
			t.Errorf("event.original %s: %v", doc.Event.Original, err)
		}
	}
	if len(ids) < 40 {
		t.Errorf("%d events", len(ids))
	}
}

// An event is the same document whatever has come after it.
func TestHistory_ECS_stays(t *testing.T) {
	log := memory{
		commit(1, 0, created("web")), commit(2, 10, allocated(2)),
		commit(3, 11, replaytest.Attributed(2, "10.50.0.2", events.Attribution{ContainerID: "abc", ContainerName: "one"})),
		commit(4, 12, events.AddressSuspected{Allocation: replaytest.Allocation(2), Address: netip.MustParseAddr("10.50.0.2")}),
		commit(5, 12, replaytest.Attributed(2, "10.50.0.2", events.Attribution{ContainerID: "abc", ContainerName: "two"})),
		suspect(commit(6, 999_999, released(2))),
		commit(7, 13, released(2)), // it contradicts the log before it
		commit(8, 14, events.Unknown{Name: "address.blessed", Raw: json.RawMessage(`{"type":"address.blessed"}`)}),
	}
	whole := documents(t, load(t, log))
	for n := range log {
		if part := documents(t, load(t, log[:n+1])); !bytes.HasPrefix(whole, part) {
			t.Errorf("after %d commits:\n%s", n+1, cmp.Diff(string(whole), string(part)))
		}
	}
}
