// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cockroachdb/errors"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

const (
	usable  = 1<<16 - 2 // addresses in a /16
	fillers = 64        // clients that fill a pool
	// crowdClients is how many clients ask pools of every size and fill.
	crowdClients = 64
)

// measureTable measures requests beside what etcd takes by itself.
func measureTable(ctx context.Context, f flags, dir string, r *report) error {
	return onDaemon(ctx, f, filepath.Join(dir, "main"), "bench", func(b *bench) error { return b.measureAll(r) })
}

func (b *bench) measureAll(r *report) error {
	for _, n := range b.clients {
		if err := b.measureClients(n); err != nil {
			return err
		}
	}
	if err := b.measurePools(); err != nil {
		return err
	}
	if err := b.measureFills(); err != nil {
		return err
	}
	for _, n := range b.hosts {
		bare, ours, err := b.measureHosts(n)
		if err != nil {
			return err
		}
		aims := []aim{rateAtLeast(0.8), atMost("p99", p99, 2)}
		if n != 16 {
			aims = nil
		}
		who := fmt.Sprintf("%d hosts", n)
		if n == 1 {
			who = "1 host"
		}
		b.rows = append(b.rows, row{who: who, side: bare}, row{who: who, side: ours, base: bare, aims: aims})
	}
	fmt.Printf(preamble, r.CPUs, b.rounds, b.duration, b.size.entry, b.size.entry, b.size.guard)
	if err := write(os.Stdout, b.rows); err != nil {
		return err
	}
	r.Table = tableOf(b.rows)
	r.Others = othersBeside(b.rows)
	return writeOthers(os.Stdout, r.Others)
}

const preamble = `%d CPUs shared by daemon, etcd and clients; %d rounds of %s each, in turns; puts of %d bytes,
transactions of a lone allocation's 5 conditions and 3 writes (%d bytes, a head, %d bytes) or a release's.
What is printed are medians over the rounds, and of the ratios (× that of the bare puts, unless the
row says otherwise) the least and the most of all rounds. "The actor" is called in the bench's own
process, without a socket before it, but comes to etcd over etcd's, as the bare clients do; the daemon
has its etcd in its own process. "Per commit" is how many requests shared a revision of etcd, "CPU each"
what one cost the daemons and etcd together (with the actor: and the bench), without the clients, and
where hosts share the etcd what their daemons had of it.

`

// bench is one daemon with the etcd in it, and what is measured on it.
type bench struct {
	flags
	ctx    context.Context
	dir    string
	main   *daemon   // with the etcd in it
	others []*daemon // on that etcd
	etcd   *clientv3.Client
	here   *local // a host in this process
	size   shape
	rows   []row
	joined int // hosts that came and went
}

// onDaemon measures on a daemon with its own etcd, a host of this name, that is there as
// long as that takes. Other hosts' directories are beside its own.
func onDaemon(ctx context.Context, f flags, dir, host string, measure func(*bench) error) error {
	own, err := start(ctx, f.program, dir, host, "")
	if err != nil {
		return err
	}
	defer own.stop()
	b, err := begin(ctx, f, filepath.Dir(dir), own)
	if err != nil {
		return err
	}
	defer b.end()
	return measure(b)
}

// begin prepares measurements on a daemon with its own etcd.
func begin(ctx context.Context, f flags, dir string, own *daemon) (*bench, error) {
	etcd, err := dial(own.etcd())
	if err != nil {
		return nil, err
	}
	b := &bench{flags: f, ctx: ctx, dir: dir, main: own, etcd: etcd}
	if b.here, err = joinHere(ctx, own.etcd(), "here"); err != nil {
		return nil, errors.CombineErrors(err, etcd.Close())
	}
	if err := b.sizes(); err != nil {
		b.end()
		return nil, err
	}
	return b, nil
}

func (b *bench) end() {
	_ = b.here.leave()
	_ = b.etcd.Close()
}

// sizes makes bare writes as long as those of one allocation.
func (b *bench) sizes() error {
	grant, err := b.here.open(b.ctx, "192.0.2.0/24")
	if err != nil {
		return err
	}
	if _, err := newCallers(b.here.Host, grant, 1)[0].(*caller).start(b.ctx); err != nil {
		return err
	}
	for prefix, size := range map[string]*int{"log/" + grant.Pool.String(): &b.size.entry, "held/" + grant.Pool.String(): &b.size.guard} {
		resp, err := b.etcd.Get(b.ctx, etcdlog.DefaultPrefix+prefix+"/", append(clientv3.WithLastRev(), clientv3.WithPrefix())...)
		if err != nil || len(resp.Kvs) == 0 {
			return errors.Wrap(errors.CombineErrors(err, errors.New("nothing is there")), "read what an allocation writes")
		}
		*size = len(resp.Kvs[0].Value)
	}
	_, err = b.here.ReleasePool(b.ctx, grant)
	return err
}

// contender is one of those that are compared, before its clients are there.
type contender struct {
	what    string
	connect func(n int) ([]client, error)
	here    bool // what answers is this process
	aims    []aim
}

func (b *bench) puts() contender {
	return contender{what: "bare puts", connect: func(n int) ([]client, error) { return newPutters(b.main.etcd(), b.size, n) }}
}

func (b *bench) transactions() contender {
	return contender{what: "bare transactions", connect: func(n int) ([]client, error) {
		return newTransactors(b.ctx, b.main.etcd(), b.size, n)
	}}
}

// asked is the daemon, asked through its socket.
func (b *bench) asked(p *pool, aims ...aim) contender {
	return contender{what: "ipamlog, " + p.what, aims: aims, connect: func(n int) ([]client, error) {
		return newContainers(b.ctx, b.main.socket, p.id, n)
	}}
}

// called is the actor, called in this process.
func (b *bench) called(p *pool) contender {
	return contender{what: "the actor, " + p.what, here: true, connect: func(n int) ([]client, error) {
		return newCallers(b.here.Host, p.grant, n), nil
	}}
}

// compare measures contenders in turns, each with n clients, and makes rows of them
// beside the first.
func (b *bench) compare(n int, contenders ...contender) ([]*side, error) {
	var sides []*side
	defer func() {
		for _, s := range sides {
			_ = closeAll(s.clients)
		}
	}()
	for _, c := range contenders {
		clients, err := c.connect(n)
		if err != nil {
			return nil, err
		}
		sides = append(sides, &side{what: c.what, clients: clients, here: c.here})
	}
	if err := takeTurns(b.ctx, sides, b.rounds, b.duration, b.read); err != nil {
		return nil, err
	}
	for i, s := range sides {
		r := row{who: fmt.Sprint(n), side: s, aims: contenders[i].aims}
		if i > 0 {
			r.base = sides[0]
		}
		b.rows = append(b.rows, r)
	}
	return sides, nil
}

// pool is one that is asked for addresses.
type pool struct {
	what  string
	id    string    // Docker's, of the daemon's grant
	grant actor.Ref // of the host in this process
	held  int
}

// makePool opens a grant of the daemon in a subnet, and one of the host in this process in
// another one like it: what one is asked the other need not read.
func (b *bench) makePool(what, subnet, here string) (*pool, error) {
	conn, err := engine.Dial(b.ctx, b.main.socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	p := &pool{what: what}
	if p.id, err = conn.CreatePool(subnet, nil); err != nil {
		return nil, errors.Wrapf(err, "create pool %s", subnet)
	}
	if here != "" {
		p.grant, err = b.here.open(b.ctx, here)
	}
	return p, err
}

// empty is a pool without a holding.
func (b *bench) empty() (*pool, error) { return b.makePool("empty /16", "10.1.0.0/16", "10.2.0.0/16") }

// measureClients compares n clients with as many that put.
func (b *bench) measureClients(n int) error {
	progress("%d clients", n)
	p, err := b.empty()
	if err != nil {
		return err
	}
	var aims []aim
	switch n {
	case 1:
		aims = []aim{atMost("p50", p50, 1.5)}
	case crowdClients:
		aims = []aim{rateAtLeast(2)}
	}
	_, err = b.compare(n, b.puts(), b.transactions(), b.called(p), b.asked(p, aims...))
	return err
}

// measurePools compares pools of other sizes with a /16.
func (b *bench) measurePools() error {
	if len(b.pools) == 0 {
		return nil
	}
	progress("%d pools", len(b.pools))
	p, err := b.empty()
	if err != nil {
		return err
	}
	all := []contender{b.puts(), b.asked(p)}
	for _, subnet := range b.pools {
		if p, err = b.makePool("empty "+subnet, subnet, ""); err != nil {
			return err
		}
		all = append(all, b.asked(p))
	}
	_, err = b.compare(crowdClients, all...)
	return err
}

// level is how full a pool is when it is measured, and by how many clients.
type level struct {
	held, clients int
	words         string
}

func (b *bench) levels() []level {
	var all []level
	for _, percent := range b.fills {
		all = append(all, level{int(usable * percent / 100), crowdClients, fmt.Sprintf("/16 %g %% full", percent)})
	}
	if len(b.fills) > 0 && !b.short {
		for _, held := range othersHeld {
			all = append(all, level{held, 1, usedWords(held)})
		}
	}
	slices.SortFunc(all, func(x, y level) int { return cmp.Compare(x.held, y.held) })
	return all
}

// measureFills compares a pool that fills up with an empty one.
func (b *bench) measureFills() error {
	levels := b.levels()
	if len(levels) == 0 {
		return nil
	}
	free, err := b.empty()
	if err != nil {
		return err
	}
	p, err := b.makePool("", "10.3.0.0/16", "10.4.0.0/16")
	if err != nil {
		return err
	}
	for _, l := range levels {
		p.what = l.words
		progress("%s", l.words)
		if err := b.fillUp(p, l.held); err != nil {
			return err
		}
		sides, err := b.compare(l.clients, b.puts(), b.asked(free), b.called(p), b.asked(p))
		if err != nil {
			return err
		}
		toEmpty := row{who: fmt.Sprint(l.clients), side: &side{what: "the same, to the empty /16", samples: sides[3].samples}, base: sides[1]}
		if l.held >= usable*99/100 {
			toEmpty.aims = []aim{rateAtLeast(0.9)}
		}
		b.rows = append(b.rows, toEmpty)
	}
	return nil
}

// fillUp asks for addresses of a pool until so many are held, through the socket and
// of the actor.
func (b *bench) fillUp(p *pool, held int) error {
	containers, err := newContainers(b.ctx, b.main.socket, p.id, fillers)
	if err != nil {
		return err
	}
	defer func() { _ = closeAll(containers) }()
	callers := newCallers(b.here.Host, p.grant, fillers)
	ways := 2
	if p.grant.Pool.IsZero() {
		ways = 1
	}
	failures := make([]error, 2*fillers)
	var wg sync.WaitGroup
	for i := range fillers {
		both := []func() error{
			func() error { _, err := containers[i].(*container).start(); return err },
			func() error { _, err := callers[i].(*caller).start(b.ctx); return err },
		}
		for which, start := range both[:ways] {
			failed := &failures[which*fillers+i]
			wg.Go(func() {
				for k := p.held + i; k < held && b.ctx.Err() == nil && *failed == nil; k += fillers {
					*failed = patiently(b.ctx, start)
				}
			})
		}
	}
	wg.Wait()
	p.held = held
	return errors.Wrapf(firstOf(failures), "fill a pool up to %d", held)
}

// firstOf is one of the failures, for they mostly are the same.
func firstOf(failures []error) error {
	i := slices.IndexFunc(failures, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return failures[i]
}

// measureHosts measures hosts that share a pool, one client each, and as many bare
// puts. The hosts reach etcd over its socket, as the puts do.
func (b *bench) measureHosts(n int) (bare, ours *side, err error) {
	progress("%d hosts", n)
	defer func() {
		for _, d := range b.others {
			d.stop()
		}
		b.others = nil
	}()
	b.joined++
	subnet := fmt.Sprintf("10.%d.0.0/16", 100+b.joined)
	ours = &side{what: "ipamlog, a host each, one pool"}
	bare = &side{what: "bare puts"}
	defer func() { _, _ = closeAll(ours.clients), closeAll(bare.clients) }()
	if bare.clients, err = newPutters(b.main.etcd(), b.size, n); err != nil {
		return nil, nil, err
	}
	for i := range n {
		name := fmt.Sprintf("h%d-%d", b.joined, i+1)
		d, err := start(b.ctx, b.program, filepath.Join(b.dir, name), name, b.main.etcd())
		if err != nil {
			return nil, nil, err
		}
		b.others = append(b.others, d)
		conn, err := engine.Dial(b.ctx, d.socket)
		if err != nil {
			return nil, nil, err
		}
		ask := &container{Conn: conn, number: i}
		ours.clients = append(ours.clients, ask)
		if ask.pool, err = conn.CreatePool(subnet, nil); err != nil {
			return nil, nil, errors.Wrapf(err, "join the pool as %s", name)
		}
	}
	return bare, ours, takeTurns(b.ctx, []*side{bare, ours}, b.rounds, b.duration, b.read)
}

// read is the bench's meter.
func (b *bench) read() (reading, error) {
	resp, err := b.etcd.Get(b.ctx, "revision", clientv3.WithCountOnly())
	if err != nil {
		return reading{}, errors.Wrap(err, "ask etcd for its revision")
	}
	r := reading{revision: resp.Header.Revision}
	if r.main, err = b.main.cpu(); err != nil {
		return reading{}, err
	}
	if r.own, err = cpuOf(os.Getpid()); err != nil {
		return reading{}, err
	}
	for _, d := range b.others {
		used, err := d.cpu()
		if err != nil {
			return reading{}, err
		}
		r.hosts += used
	}
	return r, nil
}
