package main

import "github.com/spf13/cobra"

func (p *program) policy() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "See what policies do, and apply policy files"}
	cmd.AddCommand(p.explainPolicy(), p.diffPolicies(), p.applyPolicies())
	return cmd
}
