// SPDX-License-Identifier: Apache-2.0

package actor_test

import (
	"testing"

	"github.com/ipamlog/ipamlog/actor"
)

// What is known of grants is forgotten with them, also where Docker asks late, or through
// another's.
func TestPool_forgetsGrants(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	d := b.start("h1")
	stays := d.subnet("10.1.0.0/24")
	foreign := stays
	for range 10 {
		ref := d.subnet("10.1.0.0/24")
		d.ask(ref, endpoint(1))
		d.closeGrant(ref)
		foreign.Grant, foreign.Host = b.log.Clock.NewID(), "h2"
		for _, late := range []actor.Ref{foreign, {Space: ref.Space, Pool: ref.Pool, Grant: ref.Grant, Host: "h2"}} {
			_, err := d.RequestAddress(b.ctx(), late, endpoint(1))
			wantErr(t, err, actor.ErrNoGrant)
		}
	}
	// The watch brings the end of the last one a moment after it was answered.
	eventually(t, "all but one to be forgotten", func() bool { return d.Asking(stays.Pool) == 1 })
}
