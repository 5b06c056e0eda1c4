// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ipamlog/ipamlog/render"
	"github.com/ipamlog/ipamlog/replay"
)

// needs demands exactly one argument.
func needs(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return Usagef("%s takes one %s, not %d arguments: see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return filled(cmd, args)
	}
}

// filled refuses an argument that is empty: mostly a variable that nobody has set.
func filled(cmd *cobra.Command, args []string) error {
	for i, arg := range args {
		if arg == "" {
			return Usagef("argument %d of %s is empty: see %s --help", i+1, cmd.CommandPath(), cmd.CommandPath())
		}
	}
	return nil
}

// mayHave demands at most one argument.
func mayHave(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return Usagef("%s takes at most one %s, not %d arguments: see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return filled(cmd, args)
	}
}

// needsAll demands exactly these arguments.
func needsAll(what ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(what) {
			return Usagef("%s takes %s, not %d arguments: see %s --help", cmd.CommandPath(), strings.Join(what, " "), len(args), cmd.CommandPath())
		}
		return filled(cmd, args)
	}
}

// momentArgs marks a command with arguments that are moments.
const momentArgs = "moments"

// back is a moment such as -2h.
var back = regexp.MustCompile(`^-\d`)

// agoIn writes -2h as "2h ago" where it is the argument of a command, and would be
// taken for an option.
func agoIn(root *cobra.Command, args []string) []string {
	cmd, _, err := root.Find(args)
	if err != nil || cmd.Annotations[momentArgs] == "" {
		return args
	}
	args = slices.Clone(args)
	for i, arg := range args {
		if back.MatchString(arg) {
			args[i] = arg[1:] + " ago"
		}
	}
	return args
}

// ecs marks a command that prints events, and so also in the words of the Elastic
// Common Schema.
const ecs = "ecs"

var speaksECS = map[string]string{ecs: "yes"}

func completeFormats(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	formats := render.Formats()
	if cmd.Annotations[ecs] != "" {
		formats = append(formats, string(render.FormatECS))
	}
	return formats, cobra.ShellCompDirectiveNoFileComp
}

// refuseShells has the completion for a shell that cobra does not know be wrong
// usage; cobra itself shows its help then.
func refuseShells(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return Usagef("there is no completion for %q: see %s --help", args[0], cmd.CommandPath())
			}
			return nil
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		for _, shell := range cmd.Commands() {
			shell.Args = asUsage(shell.Args)
		}
	}
}

// wrongFlag explains an option that was given wrongly.
func wrongFlag(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return Usagef("%s: see %s --help", err.Error(), cmd.CommandPath())
	}
	flag, value := invalid.GetFlag(), invalid.GetValue()
	var expected string
	switch flag.Value.Type() {
	case "bool":
		expected = "write --" + flag.Name + " alone, or with =true or =false"
	case "int":
		expected = "write a whole number"
	case "float64":
		expected = "write a number such as 2 or 0.5"
	case "duration":
		expected = "write a time such as 10s or 2m"
	default: // one of ours, whose error says what to write
		return Usagef("--%s: %s", flag.Name, invalid.Unwrap())
	}
	return Usagef("--%s cannot be %q: %s", flag.Name, value, expected)
}

// none demands that there is no argument.
func none(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef("%s takes no arguments: see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

// completePools offers what pools are called: cheap, from the catalogue alone.
func completePools(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	// Nobody waits long for a completion.
	_ = cmd.Flags().Set(timeoutFlag, "1s")
	s, err := open(cmd, wantLog)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	pools, err := replay.Catalogue(cmd.Context(), s.log)
	if s.close() != nil || err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range pools {
		if title := replay.Title(p); strings.HasPrefix(title, toComplete) {
			names = append(names, title+"\t"+p.Subnet.String())
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
