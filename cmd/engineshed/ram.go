package main

import "github.com/spf13/cobra"

func (p *program) ram() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ram", Short: "Manage who may do what in the account",
		Long: `Users, groups and roles may do what their policies say. What comes from policy files says so in the column FROM, and is changed
there: see "engineshed policy apply".`,
	}
	cmd.AddCommand(p.ramUser(), p.ramAccessKey(), p.ramGroup(), p.ramRole(), p.ramPolicy())
	return cmd
}
