// SPDX-License-Identifier: Apache-2.0

package events_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ipamlog/ipamlog/events"
)

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
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
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := events.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
