package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/audit"
)

func (p *program) audit() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "See who changed what, and verify that the trail is whole"}
	cmd.AddCommand(p.auditList(), p.auditVerify(), p.signIns())
	return cmd
}

var errTampered = errors.New("the audit trail is not as it was sealed")

func (p *program) auditVerify() *cobra.Command {
	var keep time.Duration
	var expect string
	cmd := &cobra.Command{
		Use: "verify", Short: "Recompute every seal of the audit trail, and say what was changed since",
		Long: `Recomputes every seal from the rows it covers, and the chain between the seals. Runs where the control plane runs: it
needs its database (DATABASE_URL) and its master key. Ends with status 1 when something is not as it was sealed.

Note the end that it prints and give it with --expect the next time: a chain that was cut off and taken up again holds it
no more.`,
		Example: "  engineshed audit verify\n  engineshed audit verify --expect 4711:Zm9v…",
	}
	cmd.Flags().DurationVar(&keep, "audit-retention", audit.DefaultRetention, "how long the control plane keeps the trail: what is gone before is missing")
	cmd.Flags().StringVar(&expect, "expect", "", "an end that was printed earlier")
	return p.operatorCommand(cmd, func(ctx context.Context, b *beside) error {
		master, err := b.master()
		if err != nil {
			return err
		}
		report, err := audit.NewTrail(b.db, master, time.Now).Verify(ctx, keep, expect)
		if err != nil {
			return err
		}
		if err := printReport(p.stdout, report, b.output); err != nil || report.OK() {
			return err
		}
		return errTampered
	})
}

func printReport(out io.Writer, r *audit.Report, output string) error {
	if output == "json" {
		return printJSON(out, struct {
			OK bool
			*audit.Report
			UnsealedSeconds float64
		}{r.OK(), r, r.UnsealedFor.Seconds()})
	}
	verdict := "OK"
	if !r.OK() {
		verdict = "NOT OK"
	}
	rows := [][]string{
		{"Trail", verdict},
		{"Sealed", fmt.Sprintf("%d rows in %d seals", r.Rows, r.Seals)},
		{"Not sealed yet", unsealed(r)},
		{"End", r.End},
	}
	if !r.From.IsZero() {
		rows = append(rows, []string{"Kept since", r.From.Format("January 2006")})
	}
	if r.DroppedTo > 0 {
		rows = append(rows, []string{"Dropped", fmt.Sprintf("rows up to %d, by age; the chain begins with their last seal", r.DroppedTo)})
	}
	if r.Late > 0 {
		rows = append(rows, []string{"Sealed late", fmt.Sprintf(
			"%d rows, the first is %d: more than ten minutes after they were written, so look whether sealing was off then", r.Late, r.FirstLate)})
	}
	for _, problem := range r.Problems {
		rows = append(rows, []string{"Problem", problem})
	}
	if r.More > 0 {
		rows = append(rows, []string{"Problems", fmt.Sprintf("and %d more", r.More)})
	}
	return printTable(out, rows)
}

func unsealed(r *audit.Report) string {
	if r.Unsealed == 0 {
		return "none"
	}
	return fmt.Sprintf("%d rows, the oldest for %s", r.Unsealed, short(r.UnsealedFor))
}
