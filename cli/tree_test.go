// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/cli"
	"github.com/ipamlog/ipamlog/replay"
)

// Every command of ours says what it does, how it ends, and how it is used.
func TestNew_help(t *testing.T) {
	for _, cmd := range cli.New(cli.Build{}).Commands() {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.Name(), cmd.Short)
		}
		if cmd.Name() == "completion" {
			continue // cobra's own
		}
		if !strings.Contains(cmd.Long, "Exit status: ") {
			t.Errorf("%s: the help does not tell its exit status", cmd.Name())
		}
		if !strings.HasPrefix(cmd.Example, "  ipamlog "+cmd.Name()) {
			t.Errorf("%s: example %q", cmd.Name(), cmd.Example)
		}
		for line := range strings.Lines(cmd.Long) {
			if len(line) > 82 {
				t.Errorf("%s: help line of %d characters: %s", cmd.Name(), len(line), line)
			}
		}
	}
}

func TestRun_extraCommands(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		stderr string
	}{
		"done":      {nil, 0, ""},
		"failed":    {errors.New("the disk is full:\n make room"), 1, "ipamlog: the disk is full: make room\n"},
		"escapes":   {errors.New("no pool \x1b[2Jweb\u202e: \x85 \xff \\"), 1, "ipamlog: no pool \\x1b[2Jweb\\u202e: \\x85 \\xff \\\n"},
		"usage":     {cli.Usagef("--socket %q is no path", ""), 2, "ipamlog: --socket \"\" is no path\n"},
		"ambiguous": {errors.Mark(errors.New("several"), replay.ErrAmbiguous), 2, "ipamlog: several\n"},
		"not found": {errors.Wrap(errors.Mark(errors.New("none"), replay.ErrNotFound), "look"), 3, "ipamlog: look: none\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			root := cli.New(cli.Build{}, &cobra.Command{Use: "act", GroupID: cli.GroupDaemon, RunE: func(cmd *cobra.Command, _ []string) error {
				if _, err := cli.Config(cmd); err != nil {
					return err
				}
				return c.err
			}})
			if got := cli.Run(t.Context(), root, []string{"act"}, strings.NewReader(""), &stdout, &stderr); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			if stderr.String() != c.stderr || stdout.Len() > 0 {
				t.Errorf("stderr %q, stdout %q", stderr.String(), stdout.String())
			}
		})
	}
}

func TestRun_arguments(t *testing.T) {
	var stdout, stderr bytes.Buffer
	root := cli.New(cli.Build{}, &cobra.Command{Use: "act", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }})
	if got := cli.Run(t.Context(), root, []string{"act", "now"}, strings.NewReader(""), &stdout, &stderr); got != cli.ExitUsage {
		t.Errorf("status %d, %s", got, stderr.String())
	}
}

func TestRun_interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	root := cli.New(cli.Build{}, &cobra.Command{Use: "act", RunE: func(cmd *cobra.Command, _ []string) error {
		cancel()
		return errors.Wrap(cmd.Context().Err(), "read the log")
	}})
	if got := cli.Run(ctx, root, []string{"act"}, strings.NewReader(""), &stdout, &stderr); got != cli.ExitFailed || stderr.String() != "ipamlog: interrupted before it was done\n" {
		t.Errorf("status %d, %s", got, stderr.String())
	}
}
