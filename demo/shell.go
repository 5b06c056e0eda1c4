// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// shell runs this program's commands, and shows them as a session.
type shell struct {
	program  string
	dir      string // of the demo
	env      []string
	out, err io.Writer
}

// environment is this process's, pointed at the demo's directory and at nothing
// else.
func environment(dir string) ([]string, error) {
	if err := os.WriteFile(configFile(dir), nil, 0o600); err != nil {
		return nil, errors.Wrap(err, "write an empty configuration")
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "IPAMLOG_") })
	return append(env, "IPAMLOG_DATA_DIR="+dir, "IPAMLOG_CONFIG="+configFile(dir)), nil
}

// say tells a part of the story.
func (sh shell) say(format string, args ...any) {
	fmt.Fprintf(sh.out, "\n# "+format+"\n", args...)
}

// command is one of this program's, with the demo's environment.
func (sh shell) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, sh.program, args...)
	cmd.Env = sh.env
	return cmd
}

// run shows a command and what it answers. It must end with the given status.
func (sh shell) run(ctx context.Context, status int, args ...string) error {
	fmt.Fprintf(sh.out, "\n$ ipamlog %s\n", quoted(args))
	cmd := sh.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = sh.out, sh.out // in the order in which it says it
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil && status == 0:
	case errors.As(err, &ended) && status != 0 && ended.ExitCode() == status:
		fmt.Fprintf(sh.out, "(exit status %d)\n", status)
	default:
		return errors.Newf("ipamlog %s ended with %v instead of status %d: report this", quoted(args), err, status)
	}
	return nil
}

// ask runs a command unseen, and reads its JSON.
func (sh shell) ask(ctx context.Context, into any, args ...string) error {
	cmd := sh.command(ctx, append(args, "-o", "json")...)
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		return errors.Wrapf(err, "ipamlog %s said %q", quoted(args), said.String())
	}
	return errors.Wrapf(json.Unmarshal(text, into), "read what ipamlog %s said", quoted(args))
}

// quoted is a command's words as one would type them.
func quoted(args []string) string {
	words := slices.Clone(args)
	for i, w := range words {
		if strings.ContainsAny(w, " '\"") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
