// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/ipamlog/ipamlog/events"
)

// step is what a container does with one address.
type step struct {
	does       verb
	allocation events.ID
	mac        events.MAC
}

// allocator is what an address may do, in the hands of an allocator that does one
// thing after the other: who takes it finds it free, who keeps it has it, and nobody
// but its holder gives it back. Its state is the allocation that holds it, zero when
// it is free.
var allocator = porcupine.Model{
	Init: func() any { return events.ID{} },
	Step: func(state, input, _ any) (bool, any) {
		holder, s := state.(events.ID), input.(step)
		switch s.does {
		case take:
			return holder.IsZero(), s.allocation
		case keep:
			return holder == s.allocation, holder
		default:
			return holder == s.allocation, events.ID{}
		}
	},
	DescribeOperation: func(input, _ any) string {
		s := input.(step)
		return fmt.Sprintf("%s %s", s.does, s.mac)
	},
	DescribeState: func(state any) string {
		if holder := state.(events.ID); !holder.IsZero() {
			return "held by " + holder.String()
		}
		return "free"
	},
}
