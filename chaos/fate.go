// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/ipamlog/ipamlog/events"
)

// fate is a holding as the log tells it.
type fate struct {
	spot
	allocation events.ID
	mac        events.MAC
	ended      bool
	reason     events.Reason
}

// fates are all holdings that the log tells of.
type fates struct {
	all   []*fate
	of    map[events.MAC][]*fate
	twice int // began while another held the address
}

// readFates reads the log's records, which are in their order.
func readFates(records []events.Record) *fates {
	f := &fates{of: map[events.MAC][]*fate{}}
	names := map[events.Stream]string{}
	by := map[events.ID]*fate{}
	holds := map[spot]*fate{}
	for _, r := range records {
		for _, e := range r.Events {
			switch e := e.(type) {
			case events.PoolCreated:
				names[r.Stream] = e.Name
			case events.AddressAllocated:
				one := &fate{spot: spot{names[r.Stream], e.Address}, allocation: e.Allocation, mac: e.MAC}
				f.all = append(f.all, one)
				f.of[e.MAC] = append(f.of[e.MAC], one)
				if holds[one.spot] != nil {
					f.twice++
				}
				by[e.Allocation], holds[one.spot] = one, one
			case events.AddressReleased:
				if one := by[e.Allocation]; one != nil {
					one.ended, one.reason = true, e.Reason
					delete(holds, one.spot)
				}
			default:
			}
		}
	}
	return f
}

// at is the last holding of an address by a container; nil: the log has none.
func (f *fates) at(mac events.MAC, at spot) *fate {
	var found *fate
	for _, one := range f.of[mac] {
		if one.spot == at {
			found = one
		}
	}
	return found
}
