// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/enrich"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/replay/replaytest"
)

// growing is a log of addresses to which one container comes after the other.
type growing struct {
	records []events.Record
	reads   int
	err     error
}

func (g *growing) commit(at time.Time, list ...events.Event) {
	g.records = append(g.records, events.Record{Revision: int64(len(g.records) + 1), Commit: events.Commit{
		Stream: events.PoolStream(replaytest.Web), Time: at, Host: "h1", Events: list,
	}})
}

// start has the nth container begin.
func (g *growing) start(n byte, at time.Time) {
	g.commit(at, events.AddressAllocated{Allocation: replaytest.Allocation(n), Address: address(int(n)), Kind: events.Endpoint, Host: "h1", Endpoint: fmt.Sprintf("c%d", n)})
}

func (g *growing) history() *replay.History {
	timeline := projection.NewTimeline()
	for _, r := range g.records {
		timeline.Apply(r)
	}
	return replay.NewHistory(timeline, int64(len(g.records)))
}

func (g *growing) again(context.Context) (*replay.History, []*projection.PoolLife, error) {
	g.reads++
	h := g.history()
	return h, h.Timeline().Pools(), g.err
}

// A log that is still being written is joined with what came since the start, and
// the log of addresses is not read for each line.
func TestJoin_goesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		g := &growing{}
		g.commit(begin.Add(-time.Hour), events.PoolCreated{Space: events.Local, Name: "web", Subnet: netip.MustParsePrefix("10.50.0.0/16"), Policy: events.DefaultPolicy()})
		g.start(1, begin.Add(-time.Minute))
		o := options("ts", "ip")
		o.History, o.Clock.Now, o.Again = g.history(), begin, g.again
		o.Pools = o.History.Timeline().Pools()
		in, log := io.Pipe()
		var out strings.Builder
		ended := make(chan enrich.Summary)
		go func() {
			sum, err := enrich.Join(t.Context(), in, &out, o, nil)
			if err != nil {
				t.Error(err)
			}
			ended <- sum
		}()
		write := func(at time.Time, n int, want string) {
			t.Helper()
			already := out.Len()
			line := fmt.Sprintf("%s,%s", at.UTC().Format(time.RFC3339Nano), address(n))
			if _, err := io.WriteString(log, line+"\n"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Second)
			synctest.Wait()
			if got := out.String()[already:]; got != line+want+"\n" {
				t.Errorf("%s became %q", line, got)
			}
		}
		is := func(n int) string { return fmt.Sprintf(",,,,h1,,web,endpoint,c%d,1,", n) }
		if _, err := io.WriteString(log, "ts,ip\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		write(begin.Add(-time.Second), 1, is(1))
		if g.reads > 0 {
			t.Error("the log was read again for what is known")
		}
		g.start(2, time.Now())
		write(time.Now().Add(time.Millisecond), 2, is(2))
		write(begin.Add(-time.Second), 2, nobody)
		write(begin.Add(time.Second), 1, is(1))
		// A clock that is a little ahead, and one that is far ahead.
		write(time.Now().Add(time.Second), 2, is(2))
		reads := g.reads
		write(time.Now().Add(time.Minute), 2, "")
		if g.reads > reads {
			t.Error("the log was read again for what is still to come")
		}
		// Many lines at once.
		g.start(3, time.Now())
		at := time.Now().Add(time.Millisecond)
		var lines, want strings.Builder
		for i := range 5000 {
			line := fmt.Sprintf("%s,10.50.0.3", at.Add(time.Duration(i)*time.Microsecond).UTC().Format(time.RFC3339Nano))
			fmt.Fprintln(&lines, line)
			fmt.Fprintln(&want, line+is(3))
		}
		already := out.Len()
		if _, err := io.WriteString(log, lines.String()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := out.String()[already:]; got != want.String() {
			t.Errorf("many lines became %.300q", got)
		}
		if g.reads > reads+2 {
			t.Errorf("the log was read %d times for lines of one moment", g.reads-reads)
		}
		// A store that does not answer keeps no line.
		g.err = errors.New("the store is away")
		reads = g.reads
		write(time.Now(), 3, "")
		write(time.Now(), 3, "")
		if g.reads > reads+1 {
			t.Error("the log was tried to be read for each line")
		}
		g.err = nil
		time.Sleep(5 * time.Second)
		write(time.Now(), 3, is(3))
		_ = log.Close()
		if sum := <-ended; sum.Unreadable() != 3 || sum.Unread[0].Reason != "the time is later than the history" {
			t.Errorf("%+v", sum)
		}
	})
}
