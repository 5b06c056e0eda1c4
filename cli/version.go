// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"runtime"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/events"
	"github.com/ipamlog/ipamlog/events/etcdlog"
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
			v := versionInfo{
				Version: orUnknown(build.Version), Commit: orUnknown(build.Commit), Go: runtime.Version(),
				Platform: runtime.GOOS + "/" + runtime.GOARCH, Events: events.Version, Store: etcdlog.Format,
			}
			if out.ForPrograms() {
				return render.JSON(out, v)
			}
			_, err = fmt.Fprintf(out.Writer, "ipamlog %s (commit %s, %s, %s, events in format %d, store in format %d)\n",
				v.Version, v.Commit, v.Go, v.Platform, v.Events, v.Store)
			return errors.Wrap(err, "print the version")
		},
	}
}

type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Events   int    `json:"events_format"`
	Store    int    `json:"store_format"`
}
