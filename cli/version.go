// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/api"
	"github.com/ipamlog/ipamlog/render"
)

func versionCommand(build Build) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Tell which program this is, and which formats it speaks",
		Long: `Tell the program's version, the commit it was built from, and the formats of
log and store that it reads and writes.

Exit status: 0 done; 2 wrong usage.`,
		Example: `  ipamlog version
  ipamlog version -o json`,
		Args:              none,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := Config(cmd)
			if err != nil {
				return err
			}
			out := render.NewOutput(cmd.OutOrStdout(), cfg.Output, cfg.NoColor)
			v := api.VersionOf(build.Version, build.Commit)
			if out.ForPrograms() {
				return render.JSON(out, v)
			}
			_, err = fmt.Fprintf(out.Writer, "ipamlog %s (commit %s, %s, %s, events in format %d, store in format %d)\n",
				v.Version, v.Commit, v.Go, v.Platform, v.Events, v.Store)
			return errors.Wrap(err, "print the version")
		},
	}
}
