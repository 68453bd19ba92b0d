package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/config"
)

// program is what every verb gets from outside.
type program struct {
	getenv func(string) string
	stdout io.Writer
}

// newRoot assembles the verbs, one file each.
func newRoot(getenv func(string) string, stdout io.Writer) *cobra.Command {
	p := &program{getenv: getenv, stdout: stdout}
	root := &cobra.Command{
		Use:   "engineshed",
		Short: "Run models on your own machines behind the cloud API your developers know",
		Long: `Engineshed puts inference engines on AI nodes and publishes model services.

Every flag --x-y may also be given as the variable ENGINESHED_X_Y.

What is refused names a code: docs/errors.md has the cause and the next step of each.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return config.FromEnv(cmd.Flags(), getenv)
		},
	}
	root.SetOut(stdout)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(p.up(), p.demo(), p.doctor(), p.migrate(), p.keys(), p.modelService(), p.modelAPI(), p.usage(), p.chat(), p.aiNode(),
		p.dbInstance(), p.securityIPs(), p.operatorKey(), p.audit(), p.secrets(), p.model(), p.host(), p.policy(), p.whoami(), p.assumeRole(),
		p.ram(), p.resourceGroup())
	refuseUnknown(root)
	return root
}

// refuseUnknown has verbs that only lead to others refuse what they do not know, as the first one does: to those who mistype,
// a page of help and success would look like an answer.
func refuseUnknown(parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		refuseUnknown(cmd)
		if !cmd.HasSubCommands() || cmd.Runnable() {
			continue
		}
		cmd.DisableFlagsInUseLine, cmd.FParseErrWhitelist.UnknownFlags, cmd.SuggestionsMinimumDistance = true, true, 2
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			var similar string
			for _, name := range cmd.SuggestionsFor(args[0]) {
				similar += fmt.Sprintf(", perhaps %q", cmd.CommandPath()+" "+name)
			}
			return fmt.Errorf("there is no %q%s: see %q", cmd.CommandPath()+" "+args[0], similar, cmd.CommandPath()+" --help")
		}
	}
}
