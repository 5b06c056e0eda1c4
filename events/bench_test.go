// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ipamlog/ipamlog/events"
)

// BenchmarkDecode measures the canonical reader beside the tolerant decoder that
// it spares, in one run.
func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{1, 64} {
		c := commitOf()
		for i := range n {
			c.Events = append(c.Events, events.AddressAllocated{
				Allocation: events.ID{15: byte(i + 1)}, Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Kind: events.Endpoint,
				Host: "h1", Grant: grantID, MAC: events.MAC{2, 0x42, 10, 0, 0, byte(i)}, Endpoint: "web",
			})
		}
		data, err := events.Encode(c)
		if err != nil {
			b.Fatal(err)
		}
		for name, decode := range map[string]func([]byte) (events.Commit, error){"canonical": events.Decode, "tolerant": events.DecodeAny} {
			b.Run(fmt.Sprintf("%s/events=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					if _, err := decode(data); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// BenchmarkDecodeHeld is what a daemon that starts does for every address held.
func BenchmarkDecodeHeld(b *testing.B) {
	data, err := events.EncodeGuard(holdings()[0])
	if err != nil {
		b.Fatal(err)
	}
	for name, decode := range map[string]func([]byte) (events.Held, error){"canonical": events.DecodeGuard[events.Held], "tolerant": events.DecodeAnyHeld} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
