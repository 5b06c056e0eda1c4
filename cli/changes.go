// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vishvananda/netlink"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/engine"
	"github.com/ipamlog/ipamlog/operator"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/store"
)

// changing makes a command of one that changes the log by hand: it gives it what
// these have in common, and the log in a person's hands. empty is for a store
// without a log.
func changing(cmd *cobra.Command, build Build, empty emptyStore, run func(ctx context.Context, s *session, o *operator.Operator, args []string) error) *cobra.Command {
	daemonFlags(cmd.Flags(), "host")
	return byHand(cmd, build, empty, run)
}

// byHand is changing for a command whose --host, if it has one, is another's.
func byHand(cmd *cobra.Command, build Build, empty emptyStore, run func(ctx context.Context, s *session, o *operator.Operator, args []string) error) *cobra.Command {
	cmd.GroupID = GroupHand
	cmd.Flags().Duration(timeoutFlag, storePatience, "how long to wait for an answer of the store")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := open(cmd, empty)
		if err != nil {
			return err
		}
		o, err := s.operator(cmd.Context(), build)
		if err == nil {
			err = run(cmd.Context(), s, o, args)
		}
		if errors.Is(err, operator.ErrUnsettled) {
			warn(s.stderr, "what was written of this change is not known: look for it in `ipamlog tail` once the store answers")
		}
		return errors.CombineErrors(store.Explain(err, s.client), s.close())
	}
	return cmd
}

// daemonFlags adds options of the daemon to a command's.
func daemonFlags(flags *pflag.FlagSet, names ...string) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.RegisterServe(all, config.Process())
	for _, name := range names {
		flags.AddFlag(all.Lookup(name))
	}
}

// poolFlag adds the flag by which a pool is named.
func poolFlag(cmd *cobra.Command, pool *string, usage string) {
	cmd.Flags().StringVar(pool, "pool", "", usage)
	_ = cmd.RegisterFlagCompletionFunc("pool", func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		return completePools(cmd, nil, toComplete)
	}) // fails only for a flag that is not there
}

// operator puts the log into the hands of the person at this machine.
func (s *session) operator(ctx context.Context, build Build) (*operator.Operator, error) {
	identity, err := actor.ReadIdentity(s.cfg.Host, build.Version)
	if err != nil {
		return nil, err
	}
	o := operator.Options{Host: identity.Host, Version: identity.Version, Machine: identity.Machine, Device: deviceWith}
	if s.cfg.Engine != config.Off {
		o.Engine = docker(s.cfg.Engine)
	}
	return operator.New(ctx, s.log, o)
}

// hostAddressesOf opens the log for create-network.
func hostAddressesOf(build Build) openHostAddresses {
	return func(cmd *cobra.Command, cfg config.Config) (hostAddresses, func() error, error) {
		s, err := openAs(cmd, cfg, storePatience, wantLog)
		if err != nil {
			return nil, nil, err
		}
		o, err := s.operator(cmd.Context(), build)
		if err != nil {
			return nil, nil, errors.CombineErrors(store.Explain(err, s.client), s.close())
		}
		return explained{o.HostAddresses(), s}, s.close, nil
	}
}

// explained are host addresses whose errors say what to do about the store.
type explained struct {
	hosts operator.HostAddresses
	s     *session
}

func (e explained) Look(ctx context.Context, pool string, wish netip.Addr) (operator.HostAddress, error) {
	a, err := e.hosts.Look(ctx, pool, wish)
	return a, store.Explain(err, e.s.client)
}

func (e explained) Take(ctx context.Context, pool string, wish netip.Addr) (operator.HostAddress, error) {
	a, err := e.hosts.Take(ctx, pool, wish)
	return a, store.Explain(err, e.s.client)
}

func (e explained) GiveBack(ctx context.Context, a operator.HostAddress) error {
	return store.Explain(e.hosts.GiveBack(ctx, a), e.s.client)
}

// report tells what came of a change.
func (s *session) report(out operator.Outcome, err error) error {
	if err != nil {
		return err
	}
	return s.told(out.Said, out.Notes, out)
}

// told prints what was done, for programs as the record that out is.
func (s *session) told(said, notes []string, out any) error {
	for _, note := range notes {
		s.note("ipamlog: note: %s", note)
	}
	if s.out.ForPrograms() {
		return render.JSON(s.out, out)
	}
	for _, line := range said {
		if _, err := fmt.Fprintln(s.out.Writer, render.Line(line)); err != nil {
			return errors.Wrap(err, "print what was done")
		}
	}
	return nil
}

// deviceWith names the device of this machine that has an address; "" where none
// has.
func deviceWith(addr netip.Addr) (string, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return "", errors.Wrap(err, "list the addresses of this machine's devices")
	}
	for _, a := range list {
		if has, _ := netip.AddrFromSlice(a.IP); has.Unmap() != addr {
			continue
		}
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil {
			return "", errors.Wrapf(err, "name the device that has %s", addr)
		}
		return link.Attrs().Name, nil
	}
	return "", nil
}

// docker is the address of this host's engine, asked when it is needed.
type docker string

// Knows implements [operator.Engine].
func (d docker) Knows(ctx context.Context, addr netip.Addr) (string, error) {
	uses, err := d.Uses(ctx)
	return uses[addr], err
}

// Uses implements [operator.Engine].
func (d docker) Uses(ctx context.Context) (uses map[netip.Addr]string, err error) {
	e, err := engine.Open(string(d))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.CombineErrors(err, e.Close()) }()
	networks, err := engine.Survey(ctx, e, func(engine.Network) bool { return true })
	if err != nil {
		return nil, err
	}
	uses = map[netip.Addr]string{}
	for _, n := range networks {
		addUses(uses, n)
	}
	return uses, nil
}

// addUses adds what a network uses addresses for.
func addUses(uses map[netip.Addr]string, n engine.Network) {
	add := func(addr netip.Addr, use string) {
		if _, twice := uses[addr]; !twice {
			uses[addr] = use
		}
	}
	for _, p := range n.IPAM.Pools {
		if p.Gateway.IsValid() {
			add(p.Gateway, "Docker network "+n.Name+", as its gateway")
		}
	}
	for _, e := range n.Endpoints {
		for _, a := range e.Addresses {
			add(a.Addr(), strings.TrimSpace("container "+e.Name)+" on network "+n.Name)
		}
	}
}
