package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/audit"
)

func (p *program) signIns() *cobra.Command {
	var since time.Duration
	cmd := &cobra.Command{
		Use: "sign-ins", Short: "See from where requests came that nobody could be proven to have sent",
		Long: `Shows how often requests were refused before it was known who sent them, by where they came from: a wrong signature, an
unknown access key, a replay. Runs where the control plane runs: such requests belong to no account.`,
	}
	cmd.Flags().DurationVar(&since, "since", 24*time.Hour, "how far back, at most "+audit.SignInsKept.String())
	return p.operatorCommand(cmd, func(ctx context.Context, b *beside) error {
		failed, err := audit.NewSignIns(b.db, time.Now).List(ctx, time.Now().Add(-since))
		if err != nil {
			return err
		}
		if b.output == "json" {
			return printJSON(p.stdout, map[string]any{"FailedSignIns": failed})
		}
		rows := [][]string{{"SOURCE", "CODE", "COUNT", "FIRST", "LAST"}}
		for _, f := range failed {
			rows = append(rows, []string{
				f.Source, or(f.Code, "-"), strconv.FormatInt(f.Count, 10), f.First.UTC().Format(time.RFC3339), f.Last.UTC().Format(time.RFC3339),
			})
		}
		return printTable(p.stdout, rows)
	})
}
