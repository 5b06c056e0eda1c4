// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ipamlog/ipamlog/sim/model"
)

// TestMain makes the test's own program the etcd that is measured, as the command does.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "--"+flagServe {
		if err := serve(context.Background(), os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// TestCalibrate measures in a hurry: what comes of it is rough, but of the right kind.
func TestCalibrate(t *testing.T) {
	var steps []string
	m, err := calibrate(t.Context(), 100*time.Millisecond, func(what string) { steps = append(steps, what) })
	if err != nil {
		t.Fatal(err)
	}
	c := m.Costs
	for what, d := range map[string]time.Duration{
		"a flush": c.Disk, "deciding": c.Decided, "a start": c.Join, "a lease": c.KeepAlive, "a stream in an index": c.IndexStream, "a commit in an index": c.IndexCommit,
	} {
		if d <= 0 || d > time.Second {
			t.Errorf("%s costs %v", what, d)
		}
	}
	if c.Commit < 0 || c.Delivery < 0 || c.Commit+c.Delivery+c.Flush <= 0 {
		t.Errorf("commits cost nothing: %+v", c)
	}
	// An event is some hundred bytes of JSON with a key; a guard is somewhat less.
	if c.BytesEvent < 200 || c.BytesEvent > 5000 || c.BytesHeld < 100 || c.BytesHeld > 3000 {
		t.Errorf("an event has %.0f bytes, a held address %.0f", c.BytesEvent, c.BytesHeld)
	}
	if m.Real.Rate <= 0 || m.Real.P50 <= 0 || m.Real.P99 < m.Real.P50 || m.Real.Busy <= 0 {
		t.Errorf("%d hosts did %+v", hosts, m.Real)
	}
	if len(steps) != 6 {
		t.Errorf("it told of %q", steps)
	}
}

// TestWrite prints the tables twice, by the costs that are kept.
func TestWrite(t *testing.T) {
	var m measured
	if err := json.Unmarshal(kept, &m); err != nil {
		t.Fatal(err)
	}
	tables := func(seed uint64) string {
		var out strings.Builder
		if err := write(&out, m, model.Site{Cores: 4, Index: 2 * time.Second, Indexed: 32}, 1000, seed); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	first := tables(1)
	if again := tables(1); again != first {
		t.Errorf("the same seed tells something else:\n%s\n%s", first, again)
	}
	if tables(2) == first {
		t.Error("another seed tells the same")
	}
	for _, want := range []string{"etcd " + m.Etcd, "in truth", "every 2s", "10000", "saturated"} {
		if !strings.Contains(first, want) {
			t.Errorf("nothing is said of %q:\n%s", want, first)
		}
	}
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		short(31_234):                         "31.2µs",
		short(432_100):                        "432µs",
		short(12_345_678):                     "12.35ms",
		percent(0.123):                        "12.3 %",
		percent(1.2):                          "2 times",
		bytes(3.4e8):                          "340 MB",
		bytes(3.4e9):                          "3.4 GB",
		lasts(1):                              "24 h",
		lasts(66.4):                           "66 days",
		figure(1.25) + " " + figure(300):      "1.2 300",
		every(0) + " " + every(2*time.Minute): "never every 2m0s",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
