// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ipamlog/ipamlog/events"
)

// Each name is told once, in order and with its moment, wherever the telling of it
// is interrupted.
func TestRenamings(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	for name, names := range map[string][]naming{
		"never":              {{name: "a"}},
		"once":               {{name: "a"}, {"b", at(1)}},
		"there and back":     {{name: "a"}, {"b", at(1)}, {"a", at(2)}},
		"there and back ...": {{name: "a"}, {"b", at(1)}, {"a", at(2)}, {"b", at(3)}, {"c", at(4)}, {"b", at(5)}},
	} {
		t.Run(name, func(t *testing.T) {
			e := events.AddressAttributed{Attribution: events.Attribution{ContainerID: "c", ImageID: "i", Image: "i"}}
			for known := 1; known <= len(names); known++ {
				l := NewLedger("")
				h := &holding{}
				l.holdings[events.ID{}] = h
				var got []naming
				for _, k := range []int{known, len(names)} {
					for _, x := range renamings(*h, e, names[:k]) {
						got = append(got, naming{x.ContainerName, x.Since})
						l.tell(events.ID{}, &x, 0)
					}
				}
				if diff := cmp.Diff(names, got, cmp.AllowUnexported(naming{})); diff != "" {
					t.Errorf("with %d names at first (-want +got):\n%s", known, diff)
				}
			}
		})
	}
}
