// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/replay"
)

// needs demands exactly one argument.
func needs(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return Usagef("%s takes one %s, not %d arguments: see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}

// mayHave demands at most one argument.
func mayHave(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return Usagef("%s takes at most one %s, not %d arguments: see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
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
