// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipamlog/ipamlog/events"
)

// shownHolders is how many holders a sentence names.
const shownHolders = 3

// holder says in words who holds an address.
func holder(a events.Allocation) string {
	words := a.Kind.String()
	switch a.Kind {
	case events.Reserved:
		words = "a reservation"
	case events.Host:
		words = "a host"
		if a.Host != "" {
			return "host " + a.Host
		}
	case events.Endpoint, events.Gateway, events.Auxiliary:
	}
	if a.Endpoint != "" {
		words += " " + a.Endpoint
	}
	if a.MAC != (events.MAC{}) && a.Endpoint == "" {
		words += " " + a.MAC.String()
	}
	if a.Host != "" {
		words += " on host " + a.Host
	}
	if a.Why != "" {
		words += " (" + a.Why + ")"
	}
	return words
}

func holders(held events.Held) string {
	words := make([]string, 0, len(held))
	for _, a := range held {
		words = append(words, holder(a))
	}
	return strings.Join(words, " and ")
}

// inTheWay lists the held addresses that fit, in words; "" if there is none.
func inTheWay(g events.Guards, fits func(netip.Addr, events.Allocation) bool) string {
	var found []netip.Addr
	for addr, guard := range g.Held {
		if slices.ContainsFunc(guard.Value, func(a events.Allocation) bool { return fits(addr, a) }) {
			found = append(found, addr)
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	var words []string
	for _, addr := range found[:min(len(found), shownHolders)] {
		words = append(words, fmt.Sprintf("%s is held by %s", addr, holders(g.Held[addr].Value)))
	}
	if more := len(found) - shownHolders; more > 0 {
		words = append(words, fmt.Sprintf("%d more are held", more))
	}
	return strings.Join(words, ", ")
}
