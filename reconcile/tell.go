// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// conflict writes into the log that two use an address.
func (v *view) conflict(ctx context.Context, u use, g actor.Opened, n engine.Network, e engine.Endpoint) {
	conflicted := events.AddressConflicted{
		Address: u.address, Host: g.Host, ContainerID: e.Container, ContainerName: e.Name, NetworkID: n.ID, NetworkName: n.Name, MAC: macOf(e),
	}
	guard, err := actor.Ask(ctx, func(ctx context.Context) (events.Guarded[events.Held], error) {
		guard, _, err := v.host.Writer().Log().Holding(ctx, g.ID, u.address)
		return guard, err
	})
	if err == nil && len(guard.Value) > 0 {
		conflicted.Holder = guard.Value[0].ID
	}
	if err := v.write(ctx, g, conflicted); err != nil {
		if ctx.Err() == nil {
			v.Logger.Warn().Err(err).Stringer("address", u.address).Msg("a conflict could not be written into the log: it is told again")
		}
		delete(v.mentioned, u)
		return
	}
	v.counted["conflicted"].Add(1)
}

// attribute writes into the log whose an address is that was allocated again: nobody else
// will find out, because the endpoint is older than its holding.
func (v *view) attribute(ctx context.Context, a actor.Answer, g actor.Opened, n engine.Network, e engine.Endpoint) {
	if e.Container == "" {
		return
	}
	err := v.write(ctx, g, events.AddressAttributed{Allocation: a.Allocation, Address: a.Address, Attribution: events.Attribution{
		ContainerID: e.Container, ContainerName: e.Name, NetworkID: n.ID, NetworkName: n.Name, EndpointID: e.ID,
	}})
	if err != nil && ctx.Err() == nil {
		v.Logger.Warn().Err(err).Stringer("address", a.Address).Str("container", e.Container).Msg("it could not be written into the log whose an address is")
	}
}

// write appends an event to a pool's stream that changes no guard.
func (v *view) write(ctx context.Context, g actor.Opened, e events.Event) error {
	_, err := actor.Ask(ctx, func(ctx context.Context) (events.Record, error) {
		return v.host.Writer().Append(ctx, etcdlog.Proposal{
			ID: v.host.Writer().Log().Clock.NewID(), Stream: events.PoolStream(g.ID), Events: []events.Event{e}, Seen: events.NewGuards(),
		})
	})
	return err
}

func macOf(e engine.Endpoint) events.MAC {
	var mac events.MAC
	copy(mac[:], e.MAC)
	return mac
}
