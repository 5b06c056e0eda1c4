// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipamlog/ipamlog/backup"
	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/embedded"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/store"
)

func backupCommand(build Build) *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "backup FILE [--force]",
		Short: "Write the whole log and its state into a file",
		Long: `Write the whole log, and the state that the daemons decide on, into a file, as
they are at one revision. Daemons may run meanwhile, and on --data-dir need not.

The file is JSON lines packed with zstd: zstdcat FILE | jq reads it. It holds all
that the log does, so its owner alone can read it. It appears whole or not at
all; one that is there already stays, unless --force replaces it.

Exit status: 0 done; 1 failed; 2 wrong usage.`,
		Example: `  ipamlog backup /var/backups/ipamlog-$(date +%F).zst
  ipamlog backup --cluster-store https://10.0.0.1:2379 log.zst`,
		GroupID: GroupDaemon,
		Args:    needs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := Config(cmd)
			if err != nil {
				return err
			}
			if err := backup.Free(args[0], replace); err != nil {
				return err
			}
			client, done, err := reach(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer done()
			s := sessionOn(cmd, cfg, client)
			return store.Explain(s.backup(cmd.Context(), args[0], replace, build), client)
		},
	}
	cmd.Flags().BoolVar(&replace, "force", false, "replace a file that is there")
	return cmd
}

// reach finds the store, whether a daemon runs or not.
func reach(ctx context.Context, cfg config.Config) (*clientv3.Client, func(), error) {
	client, err := store.Dial(cfg.Global)
	if errors.Is(err, store.ErrNoDaemon) && embedded.Exists(cfg.DataDir) {
		return openStore(ctx, cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	store.Patient(client, storePatience)
	return client, func() { _ = client.Close() }, nil
}

func (s *session) backup(ctx context.Context, path string, replace bool, build Build) error {
	tell, told := s.progress()
	snapshot, err := s.log.Snapshot(ctx, tell)
	told()
	if errors.Is(err, etcdlog.ErrNoStore) {
		_, err = wantLog(ctx, s)
	}
	if err != nil {
		return err
	}
	written, err := backup.Save(ctx, path, replace, snapshot, backup.Header{Version: build.Version, Time: time.Now().UTC().Truncate(time.Second), Prefix: s.cfg.Prefix})
	if err != nil {
		return err
	}
	if s.out.ForPrograms() {
		return render.JSON(s.out, backedUp{File: path, Store: written.Store.ID, Revision: written.Revision, Commits: written.Commits, Guards: written.Guards})
	}
	_, err = fmt.Fprintf(s.out.Writer, "backed up store %s at revision %d: %d commits, %d guards\n", written.Store.ID, written.Revision, written.Commits, written.Guards)
	return errors.Wrap(err, "print what was backed up")
}

// backedUp is the promised form of a backup that was made.
type backedUp struct {
	File     string    `json:"file"`
	Store    events.ID `json:"store"`
	Revision int64     `json:"revision"`
	Commits  int       `json:"commits"`
	Guards   int       `json:"guards"`
}
