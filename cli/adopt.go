// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/actor"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
	"github.com/ipamlog/ipamlog/store"
)

// adoptCommand is the way out of what a daemon refuses to start on.
func adoptCommand(build Build) *cobra.Command {
	var (
		adoptStore, yes bool
		host            string
	)
	cmd := &cobra.Command{
		Use:   "adopt (--store | --host NAME)",
		Short: "Accept another store, or this machine as a host of the log",
		Long: `Accept what the daemon refuses to start on, after a restore or a replacement.

--store accepts the store that is there now as the one of this machine's daemon.
Whatever was given out since that store was copied is not known in it.

--host NAME accepts this machine as the host of that name, in place of another
machine. It is refused while a daemon of that host is alive.

Exit status: 0 done; 1 failed, or not confirmed; 2 wrong usage.`,
		Example: "  ipamlog adopt --store\n  ipamlog adopt --host h1 --yes",
		GroupID: GroupDaemon,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if adoptStore == (host != "") {
				return Usagef("adopt takes one of --store and --host NAME: see ipamlog adopt --help")
			}
			cfg, err := Config(cmd)
			if err != nil {
				return err
			}
			client, done, err := openStore(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer done()
			log := etcdlog.New(client, cfg.Prefix)
			confirm := func(format string, args ...any) error { return confirmed(cmd, yes, format, args...) }
			if adoptStore {
				return takeStore(cmd.Context(), cfg, log, confirm)
			}
			return takeHost(cmd.Context(), log, host, build, confirm)
		},
	}
	cmd.Flags().BoolVar(&adoptStore, "store", false, "accept the store that is there now")
	cmd.Flags().StringVar(&host, "host", "", "accept this machine as the host of this `name`")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// openStore reaches the store, and runs the embedded one for as long as it is
// needed: the daemon that would run it is the one that refuses to.
func openStore(ctx context.Context, cfg config.Config) (*clientv3.Client, func(), error) {
	if len(cfg.ClusterStore) > 0 {
		client, err := store.Dial(cfg.Global)
		if err != nil {
			return nil, nil, err
		}
		return client, func() { _ = client.Close() }, nil
	}
	server, err := embedded.Start(ctx, embedded.Options{Dir: cfg.DataDir, Log: zerolog.Nop()})
	if err != nil {
		return nil, nil, err
	}
	return server.Client(), server.Close, nil
}

func takeStore(ctx context.Context, cfg config.Config, log *etcdlog.Log, confirm func(string, ...any) error) error {
	memory, known, err := store.Recollect(cfg.DataDir)
	if err != nil && !errors.Is(err, store.ErrMemory) {
		return err
	}
	was := "This machine remembers no store."
	if known {
		was = fmt.Sprintf("This machine remembers store %s at revision %d.", memory.Store, memory.Revision)
	}
	is := "one without an ipamlog log in it, where a new log begins"
	there, err := log.Store(ctx)
	switch {
	case err == nil:
		revision, err := log.Revision(ctx)
		if err != nil {
			return err
		}
		is = fmt.Sprintf("store %s at revision %d", there.ID, revision)
	case !errors.Is(err, etcdlog.ErrNoStore):
		return err
	}
	if err := confirm("%s There is %s. What was given out and is not in it may be given out again.", was, is); err != nil {
		return err
	}
	if there, err = log.Found(ctx); err != nil {
		return err
	}
	return store.Remember(cfg.DataDir, etcdlog.Memory{Store: there.ID})
}

func takeHost(ctx context.Context, log *etcdlog.Log, host string, build Build, confirm func(string, ...any) error) error {
	if _, err := log.Store(ctx); err != nil {
		return err
	}
	identity, err := actor.ReadIdentity(host, build.Version)
	if err != nil {
		return err
	}
	known, err := log.Machine(ctx, host)
	switch {
	case err != nil:
		return err
	case known == "":
		return errors.Mark(errors.Newf("there is no host %s in the log: see the names in `ipamlog tail`", host), replay.ErrNotFound)
	case known == identity.Machine:
		return errors.Newf("this machine is host %s already: there is nothing to adopt", host)
	}
	if err := confirm("This machine (%s) becomes host %s; what that host holds is this machine's from now on.", identity.Machine, host); err != nil {
		return err
	}
	return log.Adopt(ctx, host, identity.Machine, build.Version)
}

// confirmed says what will be, and asks whether it shall.
func confirmed(cmd *cobra.Command, yes bool, format string, args ...any) error {
	fmt.Fprintln(cmd.ErrOrStderr(), render.Line(fmt.Sprintf(format, args...)))
	if yes {
		return nil
	}
	fmt.Fprint(cmd.ErrOrStderr(), "Go on? [y/N] ")
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr())
	}
	if word := strings.ToLower(strings.TrimSpace(answer)); word != "y" && word != "yes" {
		return errors.New("nothing was done: answer y, or use --yes")
	}
	return nil
}
