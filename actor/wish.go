// SPDX-License-Identifier: Apache-2.0

package actor

import (
	"slices"

	"github.com/cockroachdb/errors"
	"go4.org/netipx"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/projection"
)

// Wish is what a request says of a pool's policy and layout, beside its name and
// subnet; nil is no wish. The lists are as [events.Normalize] makes them.
type Wish struct {
	Gateway    *events.GatewayMode
	Pick       *events.Pick
	Quarantine *events.Seconds
	Sticky     *events.Sticky
	Ranges     []netipx.IPRange
	Exclude    []netipx.IPRange
}

// Policy is a policy with what was wished of it in the place of what it had.
func (w Wish) Policy(p events.Policy) events.Policy {
	if w.Gateway != nil {
		p.Gateway = *w.Gateway
	}
	if w.Pick != nil {
		p.Pick = *w.Pick
	}
	if w.Quarantine != nil {
		p.Quarantine = *w.Quarantine
	}
	if w.Sticky != nil {
		p.Sticky = *w.Sticky
	}
	return p
}

// on gives a new pool what was wished. It returns [ErrOutOfRange] for ranges that
// its subnet does not have, or that leave nothing to give out.
func (w Wish) on(p *events.PoolCreated) error {
	p.Policy = w.Policy(p.Policy)
	p.Ranges, p.Exclude = w.Ranges, w.Exclude
	for _, r := range slices.Concat(w.Ranges, w.Exclude) {
		if !p.Subnet.Contains(r.From()) || !p.Subnet.Contains(r.To()) {
			return errors.Wrapf(ErrOutOfRange, "range %s is not in %s", r, p.Subnet)
		}
	}
	divided := len(w.Ranges) > 0 || len(w.Exclude) > 0
	if divided && projection.NewSubnet(p.Subnet).Assignable(p.Layout, p.Subnet).Total() == 0 {
		return errors.Wrapf(ErrOutOfRange, "ranges and exclusions leave nothing of %s to give out", p.Subnet)
	}
	return nil
}

// contradicts names the wish that a pool does not meet.
func (w Wish) contradicts(p events.Pool) error {
	switch {
	case w.Gateway != nil && *w.Gateway != p.Gateway:
		return errors.Newf("its gateway mode is %s, not %s", p.Gateway, *w.Gateway)
	case w.Pick != nil && *w.Pick != p.Pick:
		return errors.Newf("its pick is %s, not %s", p.Pick, *w.Pick)
	case w.Quarantine != nil && *w.Quarantine != p.Quarantine:
		return errors.Newf("its quarantine is %s, not %s", p.Quarantine.Duration(), w.Quarantine.Duration())
	case w.Sticky != nil && *w.Sticky != p.Sticky:
		return errors.Newf("its addresses are sticky by %q, not by %q", p.Sticky, *w.Sticky)
	case w.Ranges != nil && !slices.Equal(w.Ranges, p.Ranges):
		return errors.Newf("its ranges are %s, not %s", listed(p.Ranges), listed(w.Ranges))
	case w.Exclude != nil && !slices.Equal(w.Exclude, p.Exclude):
		return errors.Newf("it excludes %s, not %s", listed(p.Exclude), listed(w.Exclude))
	}
	return nil
}

// listed writes ranges as the options do.
func listed(ranges []netipx.IPRange) string {
	if len(ranges) == 0 {
		return "none"
	}
	return events.FormatRanges(ranges, ",")
}
