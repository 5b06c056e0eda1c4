// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/hostnet"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/render"
)

// hostAddresses gives this host the address of its bridge.
type hostAddresses interface {
	Look(ctx context.Context, pool string, wish netip.Addr) (operator.HostAddress, error)
	Take(ctx context.Context, pool string, wish netip.Addr) (operator.HostAddress, error)
	GiveBack(ctx context.Context, address operator.HostAddress) error
}

// machine is what the network is made on.
type machine interface {
	Lock() (unlock func() error, err error)
	Inspect(ctx context.Context) (hostnet.Facts, error)
	Apply(ctx context.Context, p *hostnet.Plan, tell func(hostnet.Step, hostnet.Stage)) error
}

// openHostAddresses finds the log in which hosts have their addresses.
type openHostAddresses func(cmd *cobra.Command, cfg config.Config) (hostAddresses, func() error, error)

func createNetworkCommand(open openHostAddresses) *cobra.Command {
	var (
		c           creation
		ip, persist string
	)
	cmd := &cobra.Command{
		Use:   "create-network [--ip A] [--name N] [--bridge B] [--uplink IF]",
		Short: "Join this machine to the network that all hosts share",
		Long: `Join this machine to the network that all hosts share: take an address for it
from the host range (see host-range), make a bridge that has it, make the uplink
a port of the bridge, and create the Docker network on it. Containers then are
neighbours of the containers of all hosts, on the same wire.

Everything is checked before anything is changed. What the uplink has, addresses
and routes, moves to the bridge within milliseconds: connections over it survive,
and nothing is restarted. When a step fails, or you interrupt it, all is undone.
It can be run again at any time, and does what is left to do.

Without --ip the host keeps the address it has, if that is in the host range, or
else gets the lowest that is free. Firewall rules that name the uplink have to
name the bridge from then on.

Exit status: 0 done, or nothing to do; 1 failed, and all is as it was before, or
one sentence says what is not; 2 wrong usage; 3 there is no such pool.`,
		Example: `  ipamlog create-network --dry-run
  ipamlog create-network
  ipamlog create-network --ip 172.16.16.9 --uplink eth1 --persist networkd`,
		GroupID:           GroupHand,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.wish, err = readWish(ip); err != nil {
				return err
			}
			if c.wishes.Persist, err = readPersist(persist); err != nil {
				return err
			}
			if err := c.wishes.Check(); err != nil {
				return Usagef("%s", err)
			}
			cfg, err := Config(cmd)
			if err != nil {
				return err
			}
			return c.prepareAndRun(cmd, cfg, open)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&ip, "ip", "", "the host's `address`, out of the host range (default: the one it has, else the lowest free)")
	poolFlag(cmd, &c.pool, "`pool` of the host range, where several pools have one")
	flags.StringVar(&c.wishes.Network, "name", "mynet", "`name` of the Docker network")
	flags.StringVar(&c.wishes.Bridge, "bridge", "br0", "`name` of the bridge")
	flags.StringVar(&c.wishes.Uplink, "uplink", "", "`device` towards the shared network (default: that of the default route)")
	flags.IntVar(&c.wishes.MTU, "mtu", 0, "largest packet of the containers, in `bytes` (default: the uplink's)")
	flags.StringVar(&persist, "persist", "", "what the next boot reads: ifcfg, networkd or none (default: what configures the uplink now)")
	flags.StringVar(&c.wishes.Driver, "ipam-driver", "ipamlog", "what Docker calls this `driver`; a managed plugin is called NAME:TAG")
	daemonFlags(flags, "host", "engine")
	flags.BoolVar(&c.dryRun, "dry-run", false, "tell what would be done, and do nothing")
	if err := cmd.RegisterFlagCompletionFunc("persist", cobra.FixedCompletions([]string{"ifcfg", "networkd", "none"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was registered above
	}
	return cmd
}

func readWish(ip string) (netip.Addr, error) {
	if ip == "" {
		return netip.Addr{}, nil
	}
	wish, err := netip.ParseAddr(ip)
	if err != nil {
		return wish, Usagef("--ip %q is no address: write one such as 172.16.16.9, without a prefix length", ip)
	}
	return wish, nil
}

func readPersist(text string) (hostnet.Persist, error) {
	switch p := hostnet.Persist(text); p {
	case hostnet.PersistAuto, hostnet.PersistIfcfg, hostnet.PersistNetworkd, hostnet.PersistNone:
		return p, nil
	}
	return "", Usagef("--persist %q is none of ifcfg, networkd and none", text)
}

// creation is one run of create-network.
type creation struct {
	pool   string
	wish   netip.Addr // zero: no wish
	wishes hostnet.Wishes
	dryRun bool

	note    string // what is odd about the address; may be empty
	hosts   hostAddresses
	machine machine
	out     render.Output
	stderr  io.Writer
}

func (c *creation) prepareAndRun(cmd *cobra.Command, cfg config.Config, open openHostAddresses) (err error) {
	if cfg.Engine == config.Off {
		return Usagef("create-network asks Docker, and --engine is off: name Docker's API with --engine")
	}
	if !c.dryRun {
		if err := hostnet.MayChange(); err != nil {
			return err
		}
	}
	docker, err := engine.Open(cfg.Engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, docker.Close()) }()
	m, err := hostnet.Open("/", docker)
	if err != nil {
		return err
	}
	defer m.Close()
	hosts, done, err := open(cmd, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, done()) }()

	// Whoever is logged in over the uplink may lose the terminal: all the more
	// reason to come to an end, and not in the middle of it.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGHUP, syscall.SIGPIPE)
	c.hosts, c.machine, c.stderr = hosts, m, cmd.ErrOrStderr()
	c.out = render.NewOutput(cmd.OutOrStdout(), cfg.Output, cfg.NoColor)
	return c.run(cmd.Context())
}

// run checks all, takes the address, and does the rest. An address that was
// taken for nothing is given back, unless it may be in use.
func (c *creation) run(ctx context.Context) (err error) {
	if !c.dryRun {
		unlock, lockErr := c.machine.Lock()
		if lockErr != nil {
			return lockErr
		}
		defer func() { err = errors.CombineErrors(err, unlock()) }()
	}
	facts, err := c.machine.Inspect(ctx)
	if err != nil {
		return err
	}
	seen, err := c.choose(ctx, facts)
	if err != nil {
		return err
	}
	plan, err := c.plan(facts, seen)
	if err != nil {
		return err
	}
	if c.dryRun {
		return c.foretell(seen, plan)
	}
	taken, err := c.hosts.Take(ctx, c.pool, c.wish)
	if err != nil {
		return err
	}
	if plan, err = c.apply(ctx, facts, taken); err != nil {
		switch {
		case !taken.Fresh:
			return err
		case errors.Is(err, hostnet.ErrLeft):
			return errors.WithMessagef(err, "this host keeps %s, which may be in use here: run this again, or give it back with `ipamlog release-host --ip %[1]s` once nothing has it; after", taken.Address)
		}
		return c.giveBack(taken, err)
	}
	return c.report(taken, plan)
}

// choose finds out which address there is to take. A host that has none in the
// log yet keeps the one it has on its uplink, if it may.
func (c *creation) choose(ctx context.Context, facts hostnet.Facts) (operator.HostAddress, error) {
	seen, err := c.hosts.Look(ctx, c.pool, c.wish)
	if err != nil || c.wish.IsValid() || !seen.Fresh {
		return seen, err
	}
	own := facts.AddressIn(seen.Subnet, c.wishes)
	if !own.IsValid() {
		return seen, nil
	}
	kept, err := c.hosts.Look(ctx, c.pool, own)
	switch {
	case err == nil:
		c.wish = own
		return kept, nil
	case ctx.Err() != nil:
		return seen, err
	}
	c.note = fmt.Sprintf("this machine does not keep %s, which it has: %s", own, sentence(err))
	return seen, nil
}

func (c *creation) plan(facts hostnet.Facts, a operator.HostAddress) (*hostnet.Plan, error) {
	w := c.wishes
	w.Address, w.Router, w.Pool = a.Prefix(), a.Router, a.PoolName
	plan, err := hostnet.NewPlan(facts, w)
	if err == nil && c.note != "" {
		plan.Warnings = append([]string{c.note}, plan.Warnings...)
	}
	return plan, err
}

// apply does what there is to do with the address that this host got. It is
// planned anew: another host may have been faster with the one that was seen.
func (c *creation) apply(ctx context.Context, facts hostnet.Facts, taken operator.HostAddress) (*hostnet.Plan, error) {
	plan, err := c.plan(facts, taken)
	if err != nil {
		return nil, err
	}
	c.warn(plan)
	if taken.Fresh {
		c.tell(takeText(taken), hostnet.Done)
	}
	return plan, c.machine.Apply(ctx, plan, func(s hostnet.Step, stage hostnet.Stage) { c.tell(s.String(), stage) })
}

// giveBackPatience is how long giving an address back may take.
const giveBackPatience = 15 * time.Second

func (c *creation) giveBack(taken operator.HostAddress, because error) error {
	ctx, cancel := context.WithTimeout(context.Background(), giveBackPatience)
	defer cancel()
	if err := c.hosts.GiveBack(ctx, taken); err != nil {
		return errors.WithMessagef(because, "%s is still held for this host: give it back with `ipamlog release-host --ip %[1]s` (%v); after", taken.Address, err)
	}
	c.tell(takeText(taken), hostnet.Undone)
	return because
}

func takeText(a operator.HostAddress) string {
	text := fmt.Sprintf("take %s for this host", a.Prefix())
	if a.PoolName != "" {
		text += " from pool " + a.PoolName
	}
	return text
}

// result is what -o json prints.
type result struct {
	Address  netip.Addr   `json:"address"`
	Subnet   netip.Prefix `json:"subnet"`
	Router   *netip.Addr  `json:"router"` // null: none is known
	Pool     *string      `json:"pool"`   // null: it has no name
	Bridge   string       `json:"bridge"`
	Uplink   string       `json:"uplink"`
	Network  string       `json:"network"`
	MTU      int          `json:"mtu"`
	Persist  string       `json:"persist"`
	DryRun   bool         `json:"dry_run"`
	Changed  bool         `json:"changed"` // with dry_run: whether it would be
	Steps    []string     `json:"steps"`
	Warnings []string     `json:"warnings"`
}

func (c *creation) foretell(a operator.HostAddress, plan *hostnet.Plan) error {
	c.warn(plan)
	if c.out.ForPrograms() {
		return render.JSON(c.out, c.result(a, plan))
	}
	steps := stepsOf(a, plan)
	for _, s := range steps {
		fmt.Fprintln(c.out.Writer, s)
	}
	if len(steps) == 0 {
		return c.say("nothing to do: Docker network %s is on %s, which has %s", plan.Network, plan.Bridge, a.Prefix())
	}
	fmt.Fprintln(c.stderr, "nothing was done: this is what would be")
	return nil
}

func (c *creation) report(a operator.HostAddress, plan *hostnet.Plan) error {
	switch {
	case c.out.ForPrograms():
		return render.JSON(c.out, c.result(a, plan))
	case len(stepsOf(a, plan)) == 0:
		return c.say("nothing to do: Docker network %s is on %s, which has %s", plan.Network, plan.Bridge, a.Prefix())
	}
	return c.say("done: run containers with `docker run --network %s`", plan.Network)
}

func (c *creation) say(format string, args ...any) error {
	_, err := fmt.Fprintf(c.out.Writer, format+"\n", args...)
	return errors.Wrap(err, "print what was done")
}

func (c *creation) result(a operator.HostAddress, plan *hostnet.Plan) result {
	steps := stepsOf(a, plan)
	r := result{
		Address: a.Address, Subnet: a.Subnet, Bridge: plan.Bridge, Uplink: plan.Uplink, Network: plan.Network, MTU: plan.MTU,
		Persist: string(plan.Persist), DryRun: c.dryRun, Changed: len(steps) > 0, Steps: steps, Warnings: append([]string{}, plan.Warnings...),
	}
	if a.Router.IsValid() {
		r.Router = &a.Router
	}
	if a.PoolName != "" {
		r.Pool = &a.PoolName
	}
	return r
}

// stepsOf are the lines of all that is to be done; none: all is so already.
func stepsOf(a operator.HostAddress, plan *hostnet.Plan) []string {
	steps := []string{}
	if a.Fresh {
		steps = append(steps, takeText(a))
	}
	for _, s := range plan.Steps {
		steps = append(steps, s.String())
	}
	return steps
}

func (c *creation) warn(plan *hostnet.Plan) {
	for _, w := range plan.Warnings {
		warn(c.stderr, "%s", w)
	}
}

// tell tells of a step while it goes on, to people alone.
func (c *creation) tell(step string, stage hostnet.Stage) {
	if c.out.ForPrograms() {
		return
	}
	var done, undone string
	if file, ok := c.out.Writer.(*os.File); ok && isatty.IsTerminal(file.Fd()) {
		done, undone = "✓ ", "↺ "
	}
	if stage == hostnet.Undone {
		fmt.Fprintln(c.out.Writer, undone+"undone: "+step)
		return
	}
	fmt.Fprintln(c.out.Writer, done+step)
}
