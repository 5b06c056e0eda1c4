// SPDX-License-Identifier: Apache-2.0

package enrich_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/enrich"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
	"github.com/ipamlog/ipamlog/replay"
)

// million is a history of a million events: some 333 000 containers of 64 networks,
// one after the other, each recognised.
var million = sync.OnceValue(func() *replay.History {
	timeline := projection.NewTimeline()
	n := int64(0)
	for c := range (bulk.Story{Events: 1_000_000, Held: 10_000}).Commits() {
		n++
		timeline.Apply(events.Record{Commit: c, Revision: n})
	}
	return replay.NewHistory(timeline, n)
})

// forms are lines of logs as firewalls and flow exporters write them, of a time, an
// address and a port.
var forms = map[string]struct{ header, line string }{
	"csv": {
		"timestamp,device,in,out,proto,src_ip,src_port,dest_ip,dest_port,verdict,flags,ttl,tos,id,len,window,mss,rule,mark,from,to\n",
		"%s,fw1,eth0,eth1,TCP,%s,%d,192.0.2.7,443,ACCEPT,SYN,64,0x00,63,52,65535,5840,rule-17 allow web from shop to the payment provider and others,0x000000000000,inside,outside\n",
	},
	"json": {
		"",
		`{"timestamp":"%s","flow_id":1234567890,"event_type":"flow","src_ip":"%s","src_port":%d,"dest_ip":"192.0.2.7","dest_port":443,"proto":"TCP","app_proto":"tls","flow":{"pkts":12,"bytes":3456,"state":"closed"}}` + "\n",
	},
}

// logOf is a log of so many lines about holdings: by time, or in no order.
func logOf(h *replay.History, form string, lines int, ordered bool) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	type line struct {
		at      time.Time
		address netip.Addr
	}
	var holdings []*projection.Holding
	for x := range h.Timeline().Holdings() {
		if x.To.Reached() {
			holdings = append(holdings, x)
		}
	}
	list := make([]line, lines)
	for i := range list {
		x := holdings[random.IntN(len(holdings))]
		list[i] = line{x.From.Time.Add(time.Duration(random.Int64N(int64(x.To.Time.Sub(x.From.Time))))), x.Address}
	}
	if ordered {
		slices.SortFunc(list, func(a, b line) int { return a.at.Compare(b.at) })
	}
	var log bytes.Buffer
	log.WriteString(forms[form].header)
	for _, l := range list {
		fmt.Fprintf(&log, forms[form].line, l.at.Format("2006-01-02T15:04:05.000000Z"), l.address, 1024+random.IntN(60000))
	}
	return log.Bytes()
}

// Beside this, go run ./bench measures the whole program.
func BenchmarkJoin_million(b *testing.B) {
	const lines = 1_000_000
	for form := range forms {
		for _, ordered := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/ordered=%t", form, ordered), func(b *testing.B) {
				log := logOf(million(), form, lines, ordered)
				o := options("timestamp", "src_ip")
				o.History, o.Clock.Now = million(), bulk.Begun.AddDate(1, 0, 0)
				// The history is in memory here, and all of it looked through for garbage; it
				// is not where there is an index.
				defer debug.SetGCPercent(debug.SetGCPercent(1000))
				b.SetBytes(int64(len(log)))
				b.ReportAllocs()
				begun := processor()
				for b.Loop() {
					if sum, err := enrich.Join(b.Context(), bytes.NewReader(log), io.Discard, o, nil); err != nil || sum.Joined != lines || sum.Doubtful.Lines > 0 {
						b.Fatal(sum, err)
					}
				}
				b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
				b.ReportMetric(float64(processor()-begun)/lines/float64(b.N), "cpu-ns/line")
			})
		}
	}
}

// processor is how long this process has computed, on all processors: others use them
// too.
func processor() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// What of a million events is kept in memory to join logs with, and how long it takes
// to make it.
func BenchmarkLookup_million(b *testing.B) {
	h := million()
	begun := processor()
	var lookup *replay.Lookup
	for b.Loop() {
		lookup = replay.NewLookup(h, nil, time.Time{})
	}
	b.ReportMetric(float64(processor()-begun)/1e6/float64(b.N), "cpu-ms")
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	with := heap()
	runtime.KeepAlive(lookup) // and not any longer
	b.ReportMetric(float64(with-heap())/1e6, "MB")
}
