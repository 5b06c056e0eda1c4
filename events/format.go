// SPDX-License-Identifier: Apache-2.0

package events

// Format is the first format of the store whose programs can read an event: see
// etcdlog.Format.
func Format(e Event) int {
	switch e.Type() {
	case TypeAddressSuspected, TypeAddressCleared, TypeAddressReclaimed, TypeAddressConflicted, TypeHostLeft, TypeHostTakenOver:
		return 3
	case TypeAddressReleased:
		if r, ok := e.(AddressReleased); ok && r.Reason == TakenOver {
			return 3
		}
	}
	return 2
}
