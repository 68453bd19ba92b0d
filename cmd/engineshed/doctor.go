package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/up"
)

var errUnwell = errors.New("up would not work here: the lines marked fail say what to do")

func (p *program) doctor() *cobra.Command {
	var config up.Config
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether up will work on this machine, and say what to do where it will not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("--output %s: use table or json", output)
			}
			if err := p.complete(&config); err != nil {
				return err
			}
			return p.runDoctor(cmd.Context(), config, output)
		},
	}
	p.defineUp(cmd.Flags(), &config)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func (p *program) runDoctor(ctx context.Context, config up.Config, output string) error {
	findings := up.Examine(ctx, config)
	show := showTable
	if output == "json" {
		show = showJSON
	}
	if err := show(p.stdout, findings); err != nil {
		return err
	}
	for _, finding := range findings {
		if finding.Status == up.Fail {
			return errUnwell
		}
	}
	return nil
}

func showTable(out io.Writer, findings []up.Finding) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, finding := range findings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", finding.Status, finding.Check, finding.Detail)
		if finding.Advice != "" {
			fmt.Fprintf(table, "\t\t→ %s\n", finding.Advice)
		}
	}
	return table.Flush()
}

func showJSON(out io.Writer, findings []up.Finding) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(findings)
}
