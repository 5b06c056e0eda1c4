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
	"github.com/ipamlog/ipamlog/events"
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
		format          int
	)
	cmd := &cobra.Command{
		Use:   "adopt (--store | --host NAME | --format N)",
		Short: "Accept another store, or this machine as a host of the log",
		Long: `Accept what the daemon refuses to start on, after a restore or a replacement.

--store accepts the store that is there now as the one of this machine's daemon.
Whatever was given out since that store was copied is not known in it: a daemon
that reconciles looks what its Docker uses before it gives out more.

--host NAME accepts this machine as the host of that name, in place of another
machine. It is refused while a daemon of that host is alive.

--format N puts the store into format N. The newest is what daemons choose by
themselves, once all that run can read it. An older one lets an older ipamlog
join again, and stays until the newest is asked for here: until then nothing is
reclaimed, and no host can be taken over.

Exit status: 0 done; 1 failed, or not confirmed; 2 wrong usage.`,
		Example: "  ipamlog adopt --store\n  ipamlog adopt --host h1 --yes\n  ipamlog adopt --format 2",
		GroupID: GroupDaemon,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			what := map[bool]int{}
			for _, named := range []bool{adoptStore, host != "", format != 0} {
				what[named]++
			}
			if what[true] != 1 {
				return Usagef("adopt takes one of --store, --host NAME and --format N: see ipamlog adopt --help")
			}
			if format != 0 && (format < etcdlog.OldestFormat || format > etcdlog.Format) {
				return Usagef("this ipamlog knows the formats %d to %d, not %d: name one of them with --format", etcdlog.OldestFormat, etcdlog.Format, format)
			}
			cfg, err := Config(cmd)
			if err != nil {
				return err
			}
			if err := mayHaveStore(cfg, adoptStore); err != nil {
				return err
			}
			client, done, err := openStore(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer done()
			log := sessionOn(cmd, cfg, client).log
			confirm := func(format string, args ...any) error { return confirmed(cmd, yes, format, args...) }
			switch {
			case format != 0:
				err = takeFormat(cmd.Context(), log, format, confirm)
			case adoptStore:
				err = takeStore(cmd.Context(), cfg, log, confirm)
			default:
				err = takeHost(cmd.Context(), log, host, build, confirm)
			}
			if errors.Is(err, etcdlog.ErrNoStore) {
				return noLog(cfg)
			}
			return store.Explain(err, client)
		},
	}
	cmd.Flags().BoolVar(&adoptStore, "store", false, "accept the store that is there now")
	cmd.Flags().StringVar(&host, "host", "", "accept this machine as the host of this `name`")
	cmd.Flags().IntVar(&format, "format", 0, "put the store into format `N`")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// mayHaveStore refuses a data directory where there never was a store: to reach one
// there would be to make it, in a directory that is perhaps a slip of the pen.
func mayHaveStore(cfg config.Config, adoptStore bool) error {
	if len(cfg.ClusterStore) > 0 || embedded.Exists(cfg.DataDir) {
		return nil
	}
	if adoptStore {
		// One that was lost, and is to begin anew, is remembered.
		if _, known, err := store.Recollect(cfg.DataDir); known || errors.Is(err, store.ErrMemory) {
			return nil
		}
	}
	return errors.Newf("there is no store in the data directory %s: name the right one with --data-dir, or the cluster with --cluster-store", cfg.DataDir)
}

// openStore reaches the store, and runs the embedded one for as long as it is
// needed: the daemon that would run it is the one that refuses to.
func openStore(ctx context.Context, cfg config.Config) (*clientv3.Client, func(), error) {
	if len(cfg.ClusterStore) > 0 {
		client, err := store.Dial(cfg.Global)
		if err != nil {
			return nil, nil, err
		}
		store.Patient(client, storePatience)
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
		if from := there.Restored; !from.Store.IsZero() {
			is += fmt.Sprintf(", restored at %s from store %s as it was at revision %d", replay.Stamp(from.Time), from.Store, from.Revision)
		}
	case !errors.Is(err, etcdlog.ErrNoStore):
		return err
	}
	if err := confirm("%s There is %s. What was given out and is not in it may be given out again: start the daemon while Docker runs, and it first looks what this machine's containers use.", was, is); err != nil {
		return err
	}
	if there, err = log.Found(ctx); err != nil {
		return err
	}
	return store.Remember(cfg.DataDir, etcdlog.Memory{Store: there.ID, Unlooked: true})
}

func takeFormat(ctx context.Context, log *etcdlog.Log, format int, confirm func(string, ...any) error) error {
	there, err := log.Store(ctx)
	if err != nil {
		return err
	}
	if format == etcdlog.Format {
		if err := confirm("The store is in format %d, and goes to format %d: no older ipamlog can join then.", there.Format, format); err != nil {
			return err
		}
		now, holdouts, err := log.Unlock(ctx)
		switch {
		case err != nil:
			return err
		case len(holdouts) > 0:
			return errors.Newf("the store stays in format %d: upgrade ipamlog on %s first", now, strings.Join(holdouts, ", "))
		case now != format:
			return errors.Newf("the store stays in format %d, a host has just joined: try again", now)
		}
		return nil
	}
	lacks := "nothing is archived"
	if events.Format(events.AddressReclaimed{}) > format {
		lacks = "nothing is archived or reclaimed, and no host can be taken over"
	}
	if err := confirm("The store is in format %d, and goes to format %d. An older ipamlog can join then; until `ipamlog adopt --format %d` %s.", there.Format, format, etcdlog.Format, lacks); err != nil {
		return err
	}
	return log.Lower(ctx, format)
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
