// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ipamlog/ipamlog/actor"
)

// TestUnlooked: of many who ask at once through a grant that is gone, nobody is given an
// address before its network was looked at, whatever opened the grant again.
func TestUnlooked(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*daemon, actor.Ref){
		"a container is first": func(*daemon, actor.Ref) {},
		"a gateway is first":   func(d *daemon, ref actor.Ref) { d.ask(ref, gateway("10.1.0.1")) },
		"a look at the engine": func(d *daemon, ref actor.Ref) {
			if err := d.Reopen(d.bed.ctx(), ref); err != nil {
				d.bed.tb.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			d := b.start("h1")
			d.LookAfterReopening(func() {})
			for range 5 {
				ref := d.subnet("10.1.0.0/24")
				d.ask(ref, gateway("10.1.0.1"))
				d.closeGrant(ref)
				first(d, ref)
				var asking sync.WaitGroup
				for n := range 8 {
					asking.Go(func() {
						for range 5 {
							if a, err := d.RequestAddress(b.ctx(), ref, endpoint(n)); !errors.Is(err, actor.ErrUnlooked) {
								t.Errorf("given %v: %v", a.Address, err)
							}
						}
					})
				}
				asking.Wait()
				d.Looked(time.Now())
				d.ask(ref, endpoint(1))
				d.closeGrant(ref)
			}
		})
	}
}
