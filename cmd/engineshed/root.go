package main

import (
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

Every flag --x-y may also be given as the variable ENGINESHED_X_Y.`,
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
	return root
}
