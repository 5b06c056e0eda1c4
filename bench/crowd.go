// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/bench/bulk"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// crowdSubnet is every pool's: they have names, and so may be alike.
const crowdSubnet = "10.0.0.0/16"

// crowd is many pools of one host, in which many addresses are held.
type crowd struct{ pools, held int }

func crowdPool(n int) string { return fmt.Sprintf("crowd-%d", n) }

// commits tells how it came about, pool by pool.
func (c crowd) commits() iter.Seq[events.Commit] {
	made := uint64(0)
	now := bulk.Begun
	id := func() events.ID {
		made++
		var one ulid.ULID
		_ = one.SetTime(ulid.Timestamp(now))
		binary.BigEndian.PutUint64(one[8:], made)
		return events.ID(one)
	}
	return func(yield func(events.Commit) bool) {
		for n := range c.pools {
			stream, grant := id(), id()
			tell := func(list ...events.Event) bool {
				now = now.Add(time.Millisecond)
				return yield(events.Commit{
					ID: id(), Stream: events.PoolStream(stream), Time: now, Host: startHost, Incarnation: 1, Writer: "v1.0.0", Events: list,
				})
			}
			if !tell(events.PoolCreated{Space: events.Local, Name: crowdPool(n), Subnet: netip.MustParsePrefix(crowdSubnet), Policy: events.DefaultPolicy()},
				events.GrantOpened{Grant: grant, Host: startHost}) {
				return
			}
			address := netip.MustParsePrefix(crowdSubnet).Addr()
			var list []events.Event
			for k := range c.held / c.pools {
				address = address.Next()
				b := address.As4()
				list = append(list, events.AddressAllocated{
					Allocation: id(), Address: address, Kind: events.Endpoint, Host: startHost, Grant: grant,
					MAC: events.MAC{2, byte(n >> 8), byte(n), b[1], b[2], b[3]}, Endpoint: fmt.Sprintf("%s-app-%d", crowdPool(n), k),
				})
				if len(list) == etcdlog.MaxEvents {
					if !tell(list...) {
						return
					}
					list = nil
				}
			}
			if len(list) > 0 && !tell(list...) {
				return
			}
		}
	}
}

// write makes a data directory of the crowd.
func (c crowd) write(ctx context.Context, dir string) error {
	progress("writing %d pools with %d held addresses", c.pools, c.held)
	// It is read later: that it was not on disk at once makes no difference.
	server, err := embedded.Start(ctx, embedded.Options{Dir: dir, Log: zerolog.Nop(), NoFsync: true})
	if err != nil {
		return errors.Wrap(err, "start an etcd")
	}
	defer server.Close()
	return errors.Wrap(bulk.Write(ctx, server.Client(), etcdlog.DefaultPrefix, c.commits(), nil), "write the crowd")
}
