// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/rs/zerolog"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/events"
)

// The address spaces as Docker knows ours. Constant: they are asked for again
// and again, and must need no store.
const (
	LocalSpace  = "ipamlog-local"
	GlobalSpace = "ipamlog-global"
)

// The options Docker puts into a RequestAddress (moby, daemon/libnetwork/ipamapi
// and netlabel).
const (
	optionType     = "RequestAddressType"
	typeGateway    = "com.docker.network.gateway"
	optionMAC      = "com.docker.network.endpoint.macaddress"
	optionEndpoint = "com.docker.network.endpoint.name" // engine 29 and later
)

// maxEndpoint bounds an endpoint's name, in bytes: it goes into the log.
const maxEndpoint = 256

// startPatience is how long a request waits for a daemon that has not joined the
// log yet. Docker repeats nothing that was refused: a release would be lost, and
// a container not start, for a daemon that is ready a moment later.
const startPatience = 5 * time.Second

// ErrStarting is returned while the daemon has not joined the log yet.
var ErrStarting = errors.New("ipamlog is starting and waits for its store")

// ErrRequest is returned for a request that says what cannot be.
var ErrRequest = errors.New("invalid request")

// Driver answers Docker for a host.
type Driver struct {
	host     *actor.Host // read after attached
	attached chan struct{}
	keeper   *actor.Keeper // nil: nothing is kept
	born     time.Time
	attach   sync.RWMutex // held for reading while a release is kept
}

// NewDriver returns a driver without a host. What Docker releases meanwhile goes to
// the keeper, if there is one.
func NewDriver(keeper *actor.Keeper) *Driver {
	return &Driver{attached: make(chan struct{}), keeper: keeper, born: time.Now()}
}

// Attach gives the driver the host it answers for, once. What needs the log
// waits for that, and is refused with [ErrStarting] when it takes too long. What was
// kept until now the host takes up first.
func (d *Driver) Attach(h *actor.Host) {
	d.attach.Lock()
	defer d.attach.Unlock()
	h.Resume()
	d.host = h
	close(d.attached)
}

// keep keeps a release for the host that is still to come; false if it has come.
func (d *Driver) keep(ref actor.Ref, addr netip.Addr) (bool, error) {
	d.attach.RLock()
	defer d.attach.RUnlock()
	select {
	case <-d.attached:
		return false, nil
	default:
	}
	if d.keeper == nil {
		return false, ErrStarting
	}
	return true, d.keeper.Keep(ref, addr)
}

// request is one call's view of the driver: with the caller's context, and a
// place for what its log line shall say. It is the ipam.Ipam of that call.
type request struct {
	//nolint:containedctx // ipam.Ipam has no contexts; a request lives as long as its call
	ctx    context.Context
	driver *Driver
	note   func(*zerolog.Event) // adds to the log line; nil for nothing
	repeat bool                 // the answer was given before
	undo   func()               // takes the answer back if it does not reach Docker; nil if nothing need be
}

var _ ipam.Ipam = (*request)(nil)

func (d *Driver) request(ctx context.Context) *request { return &request{ctx: ctx, driver: d} }

func (r *request) host() (*actor.Host, error) { return r.hostWithin(startPatience) }

func (r *request) hostWithin(patience time.Duration) (*actor.Host, error) {
	d := r.driver
	select {
	case <-d.attached:
		return d.host, nil
	default:
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-d.attached:
		return d.host, nil
	case <-late.C:
		return nil, ErrStarting
	case <-r.ctx.Done():
		return nil, errors.Wrap(r.ctx.Err(), "wait for the daemon to start")
	}
}

// GetCapabilities implements [ipam.Ipam]. The MAC tells endpoints apart. Nothing
// need be replayed to a driver that forgets nothing; an error during a replay
// would make the engine release live pools.
func (*request) GetCapabilities() (*ipam.CapabilitiesResponse, error) {
	return &ipam.CapabilitiesResponse{RequiresMACAddress: true}, nil
}

// GetDefaultAddressSpaces implements [ipam.Ipam].
func (*request) GetDefaultAddressSpaces() (*ipam.AddressSpacesResponse, error) {
	return &ipam.AddressSpacesResponse{LocalDefaultAddressSpace: LocalSpace, GlobalDefaultAddressSpace: GlobalSpace}, nil
}

// RequestPool implements [ipam.Ipam].
func (r *request) RequestPool(q *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	h, err := r.host()
	if err != nil {
		return nil, err
	}
	pool, err := readPoolRequest(q)
	if err != nil {
		return nil, err
	}
	granted, err := h.RequestPool(r.ctx, pool)
	if err != nil {
		return nil, err
	}
	r.note = func(e *zerolog.Event) {
		e.Stringer("pool", granted.Pool).Stringer("grant", granted.Grant).Stringer("subnet", granted.Subnet).Int64("revision", granted.Revision)
	}
	r.repeat = granted.Repeat
	if !granted.Common {
		r.undo = func() { h.UndoPool(granted.Ref) }
	}
	return &ipam.RequestPoolResponse{PoolID: formatPoolID(granted.Ref), Pool: granted.Subnet.String()}, nil
}

// readPoolRequest turns Docker's words into a request. The family is the
// subnet's: Docker's V6 counts only where it names none, and Swarm never sets it.
func readPoolRequest(q *ipam.RequestPoolRequest) (actor.PoolRequest, error) {
	pool := actor.PoolRequest{V6: q.V6}
	switch q.AddressSpace {
	case LocalSpace:
		pool.Space = events.Local
	case GlobalSpace:
		pool.Space = events.Global
	default:
		return pool, errors.Wrapf(ErrRequest, "address space %q is neither %s nor %s", q.AddressSpace, LocalSpace, GlobalSpace)
	}
	if q.Pool != "" {
		prefix, err := netip.ParsePrefix(q.Pool)
		switch {
		case err != nil || prefix.Addr().Is4In6() || prefix.Addr().Zone() != "":
			return pool, errors.Wrapf(ErrRequest, "%q is not a subnet such as 10.1.0.0/24", q.Pool)
		case prefix != prefix.Masked():
			return pool, errors.Wrapf(ErrRequest, "invalid subnet %s: it should be %s", prefix, prefix.Masked())
		case prefix.Addr().IsUnspecified() && prefix.Bits() > 0:
			// 0.0.0.0/26 and ::/64: any subnet of that length (engine 29 and later).
			pool.V6, pool.Bits = prefix.Addr().Is6(), prefix.Bits()
		case prefix.Addr().IsUnspecified():
			return pool, errors.Wrapf(ErrRequest, "%s is no subnet, use one such as 10.1.0.0/24", prefix)
		case prefix.Addr().IsLoopback() || prefix.Addr().IsMulticast():
			return pool, errors.Wrapf(ErrRequest, "no container can have an address of %s, use a subnet such as 10.1.0.0/24", prefix)
		default:
			pool.Subnet, pool.V6 = prefix, prefix.Addr().Is6()
		}
	}
	if q.SubPool != "" {
		if !pool.Subnet.IsValid() {
			return pool, errors.Wrap(ErrRequest, "an --ip-range needs a --subnet")
		}
		r, err := netip.ParsePrefix(q.SubPool)
		if err != nil || r.Bits() < pool.Subnet.Bits() || !pool.Subnet.Contains(r.Addr()) {
			return pool, errors.Wrapf(ErrRequest, "the range %q is not a part of %s", q.SubPool, pool.Subnet)
		}
		pool.Range = r.Masked()
	}
	return pool, applyOptions(&pool, q.Options)
}

// ReleasePool implements [ipam.Ipam]. Doubled, late and unknown releases are
// harmless: a PoolID names a grant, and only ever that.
func (r *request) ReleasePool(q *ipam.ReleasePoolRequest) error {
	ref, err := parsePoolID(q.PoolID)
	if err != nil {
		return err
	}
	h, err := r.hostOrSpool(ref, netip.Addr{})
	if h == nil {
		return err
	}
	released, err := h.ReleasePool(r.ctx, ref)
	r.note = func(e *zerolog.Event) {
		e.Stringer("pool", ref.Pool).Stringer("grant", ref.Grant).Int64("revision", released.Revision)
	}
	return err
}

// RequestAddress implements [ipam.Ipam].
func (r *request) RequestAddress(q *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	h, ref, err := r.grantOf(q.PoolID)
	if err != nil {
		return nil, err
	}
	ask, err := readAddressRequest(q)
	if err != nil {
		return nil, err
	}
	answer, err := h.RequestAddress(r.ctx, ref, ask)
	if err != nil {
		return nil, err
	}
	r.note = func(e *zerolog.Event) {
		e.Stringer("pool", ref.Pool).Stringer("grant", ref.Grant).Stringer("address", answer.Address).
			Stringer("kind", answer.Kind).Stringer("allocation", answer.Allocation).Int64("revision", answer.Revision)
		if answer.Repeat {
			e.Bool("repeat", true)
		}
	}
	if r.repeat = answer.Repeat; !r.repeat {
		r.undo = func() { h.Undo(ref, answer) }
	}
	return &ipam.RequestAddressResponse{Address: answer.Prefix().String()}, nil
}

// readAddressRequest tells the ways of asking apart. Docker sends nothing with
// an auxiliary address but itself, and older engines no endpoint name.
func readAddressRequest(q *ipam.RequestAddressRequest) (ask actor.AddressRequest, err error) {
	if q.Address != "" {
		if ask.Address, err = readAddress(q.Address); err != nil {
			return ask, err
		}
	}
	if ask.MAC, err = events.ParseMAC(q.Options[optionMAC]); err != nil {
		return ask, errors.Mark(err, ErrRequest)
	}
	ask.Endpoint = q.Options[optionEndpoint]
	if len(ask.Endpoint) > maxEndpoint {
		return ask, errors.Wrapf(ErrRequest, "an endpoint's name has %d bytes at most", maxEndpoint)
	}
	switch {
	case q.Options[optionType] == typeGateway:
		ask.Asking = actor.AskGateway
	case ask.MAC != events.MAC{} || ask.Endpoint != "":
		ask.Asking = actor.AskEndpoint
	}
	return ask, nil
}

func readAddress(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, errors.Wrapf(ErrRequest, "%q is not an address", s)
	}
	return addr.Unmap(), nil
}

// ReleaseAddress implements [ipam.Ipam].
func (r *request) ReleaseAddress(q *ipam.ReleaseAddressRequest) error {
	ref, err := parsePoolID(q.PoolID)
	if err != nil {
		return err
	}
	addr, err := readAddress(q.Address)
	if err != nil {
		return err
	}
	h, err := r.hostOrSpool(ref, addr)
	if h == nil {
		return err
	}
	released, err := h.ReleaseAddress(r.ctx, ref, addr)
	r.note = func(e *zerolog.Event) {
		e.Stringer("pool", ref.Pool).Stringer("grant", ref.Grant).Stringer("address", addr)
		if !released.Allocation.IsZero() {
			e.Stringer("allocation", released.Allocation).Int64("revision", released.Revision)
		}
	}
	return err
}

// hostOrSpool returns the host. While there is none it keeps the release, and returns
// no host: an engine that starts gives back one address after the other, and must not
// wait for each.
func (r *request) hostOrSpool(ref actor.Ref, addr netip.Addr) (*actor.Host, error) {
	for {
		h, err := r.hostWithin(time.Until(r.driver.born.Add(startPatience)))
		if !errors.Is(err, ErrStarting) {
			return h, err
		}
		if kept, err := r.driver.keep(ref, addr); kept || err != nil {
			r.note = func(e *zerolog.Event) {
				e.Stringer("pool", ref.Pool).Stringer("grant", ref.Grant).Bool("spooled", kept && err == nil)
				if addr.IsValid() {
					e.Stringer("address", addr)
				}
			}
			return nil, err
		}
	}
}

func (r *request) grantOf(poolID string) (*actor.Host, actor.Ref, error) {
	ref, err := parsePoolID(poolID)
	if err != nil {
		return nil, ref, err
	}
	h, err := r.host()
	return h, ref, err
}
