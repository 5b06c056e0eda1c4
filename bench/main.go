// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/demo/engine"
	"github.com/ipamlog/ipamlog/events/etcdlog"
)

// The pools that are measured: empty, half full, and nearly full.
const (
	usable  = 1<<16 - 2 // addresses in a /16
	fillers = 64        // clients that fill a pool
	// fillClients is the row of the table that is measured at every fill.
	fillClients = 64
)

// flags are how the measurement is asked for.
type flags struct {
	rounds   int
	duration time.Duration
	clients  []int
	fill     bool
	hosts    int
	past     int
	program  string
}

func main() {
	var f flags
	pflag.IntVar(&f.rounds, "rounds", 3, "`times` that each side is measured, in turns")
	pflag.DurationVar(&f.duration, "duration", 1500*time.Millisecond, "how long each time")
	pflag.IntSliceVar(&f.clients, "clients", []int{1, 16, 64, 256}, "`numbers` of clients at once; 0 for none")
	pflag.BoolVar(&f.fill, "fill", true, "measure 64 clients on pools 50 % and 99 % full, too")
	pflag.IntVar(&f.hosts, "hosts", 16, "`number` of hosts, a daemon each, that share one pool; 0 for none")
	pflag.IntVar(&f.past, "past", 1_000_000, "`number` of events to ask the past of; 0 for none")
	pflag.StringVar(&f.program, "program", "", "`path` of the ipamlog to measure (default: built from this source)")
	pflag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// measure runs everything in a directory of its own, and prints the table.
func measure(ctx context.Context, f flags) error {
	if f.rounds < 1 || f.duration <= 0 || pflag.NArg() > 0 {
		return errors.New("see --help: there must be a round and a duration, and no other words")
	}
	f.clients = slices.DeleteFunc(f.clients, func(n int) bool { return n <= 0 })
	dir, err := os.MkdirTemp("", "ipamlog-bench")
	if err != nil {
		return errors.Wrap(err, "make a directory")
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if f.program == "" {
		if f.program, err = build(ctx, dir); err != nil {
			return err
		}
	}
	if len(f.clients) > 0 || f.hosts > 0 {
		if err := measureDaemon(ctx, f, dir); err != nil {
			return err
		}
	}
	if f.past == 0 {
		return nil
	}
	return measurePast(ctx, f.program, dir, f.past)
}

// measureDaemon measures the daemon beside its etcd.
func measureDaemon(ctx context.Context, f flags, dir string) error {
	own, err := start(ctx, f.program, filepath.Join(dir, "main"), "bench", "")
	if err != nil {
		return err
	}
	defer own.stop()
	etcd, err := dial(own.etcd())
	if err != nil {
		return err
	}
	defer func() { _ = etcd.Close() }()
	b := &bench{flags: f, ctx: ctx, dir: dir, main: own, etcd: etcd}
	if err := b.prepare(); err != nil {
		return err
	}
	for _, n := range f.clients {
		if err := b.measureClients(n); err != nil {
			return err
		}
	}
	if f.hosts > 0 {
		if err := b.measureHosts(); err != nil {
			return err
		}
	}
	fmt.Printf(preamble, runtime.NumCPU(), f.rounds, f.duration, len(b.value))
	return write(os.Stdout, b.rows)
}

const preamble = `%d CPUs shared by daemon, etcd and clients; %d rounds of %s each, in turns; puts of %d bytes.
What is printed are medians over the rounds, and of the ratios (× that of the bare puts, unless the
row says otherwise) the least and the most of all rounds. "Per commit" is how many requests shared a
revision of etcd, "CPU each" what one cost the daemons and etcd together, without the clients, and
where hosts share the etcd what their daemons had of it.

`

// bench is one run.
type bench struct {
	flags
	ctx    context.Context
	dir    string
	main   *daemon   // with the etcd in it
	others []*daemon // on that etcd
	etcd   *clientv3.Client
	value  string            // of a bare put
	pools  map[string]string // PoolIDs by what they are
	rows   []row
}

const (
	empty = "empty pool"
	half  = "pool 50 % full"
	full  = "pool 99 % full"
)

// prepare finds the size of a put, and fills the pools.
func (b *bench) prepare() error {
	conn, err := engine.Dial(b.ctx, b.main.socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	b.pools = map[string]string{}
	for i, what := range []string{empty, half, full} {
		subnet := fmt.Sprintf("10.%d.0.0/16", i+1)
		if b.pools[what], err = conn.CreatePool(subnet, nil); err != nil {
			return errors.Wrapf(err, "create pool %s", subnet)
		}
	}
	if err := b.size(); err != nil {
		return err
	}
	if !b.fill {
		return nil
	}
	if err := b.fillUp(half, usable/2); err != nil {
		return err
	}
	return b.fillUp(full, usable*99/100)
}

// size makes the value of a bare put as long as the log entry of one allocation.
func (b *bench) size() error {
	clients, err := newContainers(b.ctx, b.main.socket, b.pools[empty], 1)
	if err != nil {
		return err
	}
	defer func() { _ = closeAll(clients) }()
	if _, err := clients[0].(*container).start(); err != nil {
		return err
	}
	resp, err := b.etcd.Get(b.ctx, etcdlog.DefaultPrefix+"log/", append(clientv3.WithLastRev(), clientv3.WithPrefix())...)
	if err != nil || len(resp.Kvs) == 0 {
		return errors.Wrap(errors.CombineErrors(err, errors.New("nothing is there")), "read the last log entry")
	}
	b.value = strings.Repeat("v", len(resp.Kvs[0].Value))
	return nil
}

// fillUp asks for n addresses of a pool and keeps them.
func (b *bench) fillUp(what string, n int) error {
	b.progress("filling the %s", what)
	clients, err := newContainers(b.ctx, b.main.socket, b.pools[what], fillers)
	if err != nil {
		return err
	}
	defer func() { _ = closeAll(clients) }()
	failures := make([]error, fillers)
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for k := i; k < n && b.ctx.Err() == nil; k += fillers {
				if _, failures[i] = c.(*container).start(); failures[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Wrapf(errors.Join(failures...), "fill the %s", what)
}

// measureClients compares n clients of the daemon with n bare puts.
func (b *bench) measureClients(n int) error {
	b.progress("%d clients", n)
	puts, err := newPutters(b.main.etcd(), b.value, n)
	if err != nil {
		return err
	}
	sides := []*side{{what: "bare puts", clients: puts}}
	defer func() {
		for _, s := range sides {
			_ = closeAll(s.clients)
		}
	}()
	whats := []string{empty}
	if n == fillClients && b.fill {
		whats = append(whats, half, full)
	}
	for _, what := range whats {
		clients, err := newContainers(b.ctx, b.main.socket, b.pools[what], n)
		if err != nil {
			return err
		}
		sides = append(sides, &side{what: "ipamlog, " + what, clients: clients})
	}
	if err := takeTurns(b.ctx, sides, b.rounds, b.duration, b.read); err != nil {
		return err
	}
	who := fmt.Sprint(n)
	b.rows = append(b.rows, row{who: who, side: sides[0]})
	for _, s := range sides[1:] {
		b.rows = append(b.rows, row{who: who, side: s, base: sides[0], aims: aimsFor(n)})
	}
	if len(sides) > 2 {
		last := sides[len(sides)-1]
		last = &side{what: "the same, to the empty pool", samples: last.samples}
		b.rows = append(b.rows, row{who: who, side: last, base: sides[1], aims: []aim{atLeast("rate", rate, 0.9)}})
	}
	return nil
}

func aimsFor(clients int) []aim {
	switch clients {
	case 1:
		return []aim{atMost("p50", p50, 1.5)}
	case 64:
		return []aim{atLeast("rate", rate, 2)}
	}
	return nil
}

// measureHosts compares hosts that share a pool, one client each, with as many
// bare puts. The hosts reach etcd over its socket, as the puts do.
func (b *bench) measureHosts() error {
	b.progress("%d hosts", b.hosts)
	puts, err := newPutters(b.main.etcd(), b.value, b.hosts)
	if err != nil {
		return err
	}
	defer func() { _ = closeAll(puts) }()
	var asks []client
	defer func() { _ = closeAll(asks) }()
	for i := range b.hosts {
		name := fmt.Sprintf("h%d", i+1)
		d, err := start(b.ctx, b.program, filepath.Join(b.dir, name), name, b.main.etcd())
		if err != nil {
			return err
		}
		defer d.stop()
		b.others = append(b.others, d)
		conn, err := engine.Dial(b.ctx, d.socket)
		if err != nil {
			return err
		}
		ask := &container{Conn: conn, number: i}
		asks = append(asks, ask)
		if ask.pool, err = conn.CreatePool("10.9.0.0/16", nil); err != nil {
			return errors.Wrapf(err, "join the pool as %s", name)
		}
	}
	bare := &side{what: "bare puts", clients: puts}
	ours := &side{what: "ipamlog, a host each, one pool", clients: asks}
	if err := takeTurns(b.ctx, []*side{bare, ours}, b.rounds, b.duration, b.read); err != nil {
		return err
	}
	who := fmt.Sprintf("%d hosts", b.hosts)
	b.rows = append(b.rows, row{who: who, side: bare}, row{who: who, side: ours, base: bare, aims: []aim{
		atLeast("rate", rate, 0.8), atMost("p99", p99, 2),
	}})
	return nil
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
	for _, d := range b.others {
		used, err := d.cpu()
		if err != nil {
			return reading{}, err
		}
		r.hosts += used
	}
	return r, nil
}

// progress tells on standard error what is going on.
func (*bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+" …\n", args...)
}
