// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/backup"
	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/store"
)

func restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a log of a backup, in an empty store",
		Long: `Make a log of a backup, where there is none: in a cluster below --prefix, or,
without --cluster-store, in a data directory on which no daemon runs. The file is
looked at first, and nothing is written if it is damaged. A restore that was cut
short leaves a store that nobody uses: run it again.

Revisions keep their numbers, and new ones are higher. The store is a new one to
the daemons that knew the old one, which may have seen more than is in the
backup: each stops, or does not start, until ipamlog adopt --store was run on its
machine. When it starts it looks at its Docker, and allocates again what
containers use.

Exit status: 0 done; 1 refused or failed; 2 wrong usage.`,
		Example: `  ipamlog restore /var/backups/ipamlog-2026-03-01.zst
  ipamlog restore --cluster-store https://10.0.0.1:2379 --prefix /ipamlog/v2/ log.zst`,
		GroupID: GroupDaemon,
		Args:    needs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := Config(cmd)
			if err != nil {
				return err
			}
			// Before the store: a data directory would be made for it.
			from, err := backup.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer func() { _ = from.Close() }()
			client, done, err := openStore(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer done()
			s := sessionOn(cmd, cfg, client)
			return store.Explain(s.restore(cmd.Context(), from), client)
		},
	}
}

func (s *session) restore(ctx context.Context, was *backup.Backup) error {
	var tell func(int)
	told := func() {}
	made, err := was.Restore(ctx, s.log, time.Now(), func(done, of int) {
		if tell == nil {
			if tell, told = s.counting("restoring: %d of "+fmt.Sprint(of)+" keys", 0); tell == nil {
				tell = func(int) {}
			}
		}
		tell(done)
	})
	told()
	if err != nil {
		return err
	}
	if s.out.ForPrograms() {
		return render.JSON(s.out, restored{
			Store: made.ID, From: was.Store.ID, Revision: was.Revision, BackedUp: was.Time,
			Commits: was.Commits, Guards: was.Guards,
		})
	}
	_, err = fmt.Fprintf(s.out.Writer, `restored %d commits and %d guards, as store %s was at revision %d
The store is %s now. Next, on each machine whose daemon knew the old one:
  ipamlog adopt --store
  ipamlog serve
and then, on one of them:
  ipamlog verify
`, was.Commits, was.Guards, was.Store.ID, was.Revision, made.ID)
	return errors.Wrap(err, "print what was restored")
}

// restored is the promised form of a store that was restored.
type restored struct {
	Store    events.ID `json:"store"`
	From     events.ID `json:"restored_from"`
	Revision int64     `json:"revision"`
	BackedUp time.Time `json:"backed_up"`
	Commits  int       `json:"commits"`
	Guards   int       `json:"guards"`
}
