// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/embedded"
)

// BenchmarkTxn is a lone commit of the size the driver writes, fsync and all.
func BenchmarkTxn(b *testing.B) {
	s := start(b, embedded.Options{Dir: dataDir(b)})
	outside := dial(b, s.Endpoint())
	for _, way := range []struct {
		name   string
		client *clientv3.Client
	}{{"in-process", s.Client()}, {"socket", outside}} {
		b.Run(way.name, func(b *testing.B) {
			event, guard := strings.Repeat("x", 250), strings.Repeat("y", 80)
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				key := began.Format(time.RFC3339Nano)
				_, err := way.client.Txn(b.Context()).
					If(clientv3.Compare(clientv3.CreateRevision("log/"+key), "=", 0)).
					Then(clientv3.OpPut("log/"+key, event), clientv3.OpPut("held/"+key, guard)).
					Commit()
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkStart is the way from nothing, or from what the last one left, to a
// server that takes writes.
func BenchmarkStart(b *testing.B) {
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			s := start(b, embedded.Options{Dir: dataDir(b)})
			b.StopTimer()
			s.Close()
			b.StartTimer()
		}
	})
	b.Run("again", func(b *testing.B) {
		dir := dataDir(b)
		start(b, embedded.Options{Dir: dir}).Close()
		for b.Loop() {
			s := start(b, embedded.Options{Dir: dir})
			b.StopTimer()
			s.Close()
			b.StartTimer()
		}
	})
}

// BenchmarkDefragment is how long writes wait for it, by what there is to keep.
func BenchmarkDefragment(b *testing.B) {
	opts := quick(dataDir(b))
	s := start(b, opts)
	value := strings.Repeat("x", 250)
	for _, events := range []int{10_000, 100_000} {
		b.Run(strconv.Itoa(events), func(b *testing.B) {
			for i := 0; i < events; i += 100 {
				var batch []clientv3.Op
				for j := range 100 {
					batch = append(batch, clientv3.OpPut(strconv.Itoa(i+j), value))
				}
				if _, err := s.Client().Txn(b.Context()).Then(batch...).Commit(); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if _, err := s.Client().Defragment(b.Context(), ""); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdle is what ten seconds cost in which nobody wants anything.
func BenchmarkIdle(b *testing.B) {
	start(b, embedded.Options{Dir: dataDir(b)})
	const span = 10 * time.Second
	for b.Loop() {
		before := cpuTime(b)
		<-time.After(span)
		used := cpuTime(b) - before
		b.ReportMetric(used.Seconds()/span.Seconds()*1000, "cpu-‰")
	}
	b.ReportMetric(residentMiB(b), "RSS-MiB")
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func residentMiB(tb testing.TB) float64 {
	tb.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		tb.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / (1 << 20)
}
