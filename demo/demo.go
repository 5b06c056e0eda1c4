// SPDX-License-Identifier: Apache-2.0

// Package demo shows ipamlog without Docker.
//
// It runs a daemon of its own in a temporary directory, asks it for addresses
// over the plugin socket as Docker would on a busy morning, and then puts to it
// the questions that come up afterwards, with the commands anybody would use.
// Nothing is made up but the containers: every address, refusal and answer that
// is printed is the daemon's or a command's. In the end, or when it is
// interrupted, all that it made is removed.
package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/cli"
	"github.com/ipamlog/ipamlog/demo/engine"
)

// Command returns the demo command. It runs the program it is part of.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show all this in ten seconds, without Docker",
		Long: `Run a daemon in a temporary directory, play a morning of containers over the real
socket protocol, and ask the log about it. Docker is not needed and not touched,
nor is a store that is in use. Everything is removed afterwards.

Exit status: 0 done; 1 failed, or interrupted; 2 wrong usage.`,
		Example: "  ipamlog demo",
		GroupID: cli.GroupDaemon,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := run(cmd.Context(), shell{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()})
			if cmd.Context().Err() != nil {
				return errors.New("the demo was interrupted: what it had made is removed, start it again any time")
			}
			return err
		},
	}
}

// run plays the demo from beginning to end.
func run(ctx context.Context, sh shell) (err error) {
	if sh.program, err = os.Executable(); err != nil {
		return errors.Wrap(err, "find this program")
	}
	dir, err := os.MkdirTemp("", "ipamlog-demo-")
	if err != nil {
		return errors.Wrap(err, "make a temporary directory: set TMPDIR to one that can be written")
	}
	defer func() { _ = os.RemoveAll(dir) }()
	sh.dir = dir
	if sh.env, err = environment(dir); err != nil {
		return err
	}

	api, closeAPI, err := serveAPI(dir)
	if err != nil {
		return err
	}
	defer closeAPI()
	sh.say("A daemon starts in %s, with an etcd of its own inside.", dir)
	d, err := startDaemon(ctx, sh, dir)
	if err != nil {
		return err
	}
	defer d.stop()
	conn, err := engine.Dial(ctx, d.socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // an interrupt waits for no answer

	if err := morning(ctx, sh, newDocker(conn, api, sh.out)); err != nil {
		return err
	}
	sh.say("That was it: the daemon stops, and %s is removed.", dir)
	fmt.Fprintln(sh.out, "Next: ipamlog serve, and ipamlog help.")
	return nil
}

// configFile is the configuration of all that runs in the demo: empty, for that
// of the machine may name a store that is in use.
func configFile(dir string) string { return filepath.Join(dir, "config.yaml") }
