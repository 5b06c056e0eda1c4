// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ipamlog/ipamlog/config"
	"github.com/ipamlog/ipamlog/render"
)

// Build says which program this is.
type Build struct {
	Version string // empty: not known
	Commit  string // empty: not known
}

// The groups under which help lists the commands; those that are added to the
// tree may belong to them.
const (
	GroupDaemon = "daemon"
	GroupAsk    = "ask"
	GroupHand   = "hand"
)

// New returns the tree of commands, the extra ones included.
func New(build Build, extra ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "ipamlog",
		Short: "Docker addresses, remembered for ever",
		Long: `ipamlog is a Docker IPAM driver whose memory is a log. Every change to who holds
which address is an event on etcd; the commands here ask that log.

Without --cluster-store they ask the embedded etcd of the daemon that runs on
--data-dir.

Exit status: 0 done; 1 failed, and one sentence on standard error says what to
do; 2 wrong usage; 3 what was asked for does not exist.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := "see ipamlog help"
			if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
				hint = "did you mean " + strings.Join(similar, " or ") + "?"
			}
			return Usagef("there is no command %q: %s", args[0], hint)
		},
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
	}
	root.AddGroup(
		&cobra.Group{ID: GroupDaemon, Title: "The daemon:"},
		&cobra.Group{ID: GroupAsk, Title: "Questions:"},
		&cobra.Group{ID: GroupHand, Title: "Changes by hand:"},
	)
	config.RegisterGlobal(root.PersistentFlags(), config.Process())
	if err := root.RegisterFlagCompletionFunc("output", completeFormats); err != nil {
		panic(err) // the flag was registered two lines above
	}
	root.SetFlagErrorFunc(wrongFlag)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(
		poolsCommand(), holdersCommand(), whoCommand(), historyCommand(), replayCommand(), diffCommand(), tailCommand(), exportCommand(), verifyCommand(), enrichCommand(),
		ipRangeCommand(build), hostRangeCommand(build), reserveCommand(build), unreserveCommand(build),
		releaseIPCommand(build), releaseHostCommand(build), importCommand(build), createNetworkCommand(hostAddressesOf(build)),
		adoptCommand(build), archiveCommand(), forgetCommand(), backupCommand(build), restoreCommand(), hostsCommand(), reclaimCommand(build), versionCommand(build),
	)
	root.AddCommand(extra...)
	refuseShells(root)
	for _, cmd := range root.Commands() {
		cmd.Args = asUsage(cmd.Args)
	}
	return root
}

// asUsage has arguments that a command does not take be wrong usage, whoever
// wrote the command.
func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		return nil
	}
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err != nil && !errors.Is(err, ErrUsage) {
			return Usagef("%s does not take %q: see %s --help", cmd.CommandPath(), strings.Join(args, " "), cmd.CommandPath())
		}
		return err
	}
}

// Run runs the tree with the arguments, without the program's name, and returns
// the exit status. It prints the error, if there is one.
func Run(ctx context.Context, root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root.SetArgs(agoIn(root, args))
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted before it was done")
	}
	if err != nil {
		fmt.Fprintln(stderr, "ipamlog: "+sentence(err))
	}
	return ExitStatus(err)
}

// Config finds out how a command of the tree was asked to run. What is wrong is
// wrong usage; what is only odd is told on standard error.
func Config(cmd *cobra.Command) (config.Config, error) {
	cfg, err := config.Load(cmd.Flags(), config.Process())
	if err != nil {
		return cfg, errors.Mark(err, ErrUsage)
	}
	if cfg.Output == render.FormatECS && cmd.Annotations[ecs] == "" {
		return cfg, Usagef("-o ecs is for events alone, as tail and export --events print them: choose one of %s", strings.Join(render.Formats(), ", "))
	}
	for _, w := range cfg.Warnings {
		warn(cmd.ErrOrStderr(), "%s", w)
	}
	return cfg, nil
}

// helpCommand is cobra's, but for a topic that is none.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "help [COMMAND]",
		Short:             "Explain a command",
		Long:              "Explain a command, or list them all.\n\nExit status: 0 done; 2 there is no such command.",
		Example:           "  ipamlog help who",
		ValidArgsFunction: completeCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil || topic == nil || len(rest) > 0 {
				return Usagef("there is no command %q: see ipamlog help", strings.Join(args, " "))
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
	}
}

func completeCommands(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		for _, c := range cmd.Root().Commands() {
			if c.IsAvailableCommand() && strings.HasPrefix(c.Name(), toComplete) {
				names = append(names, c.Name()+"\t"+c.Short)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
