package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/audit"
)

// auditWish is what the flags of audit list say.
type auditWish struct {
	since                                time.Duration
	principal, action, resource, outcome string
	limit                                int
}

func (p *program) auditList() *cobra.Command {
	var w auditWish
	cmd := &cobra.Command{
		Use: "list", Short: "List who changed what, and who tried to", Args: cobra.NoArgs,
		Example: "  engineshed audit list --since 1h --outcome denied\n  engineshed audit list --principal '*:user/alice' --action 'gpdb:Delete*'",
	}
	flags := cmd.Flags()
	flags.DurationVar(&w.since, "since", 24*time.Hour, "how far back")
	flags.StringVar(&w.principal, "principal", "", "only this caller: ARN, with * and ?")
	flags.StringVar(&w.action, "action", "", "only this action, with * and ?")
	flags.StringVar(&w.resource, "resource", "", "only this resource: ARN or id, with * and ?")
	flags.StringVar(&w.outcome, "outcome", "", "only done, repeated, denied or failed")
	flags.IntVar(&w.limit, "limit", 1000, "how many at most, the newest")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		if w.since <= 0 || w.limit <= 0 {
			return fmt.Errorf("--since %s, --limit %d: both must be more than nothing", w.since, w.limit)
		}
		events, more, err := c.auditEvents(ctx, w, time.Now())
		if err != nil {
			return err
		}
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), map[string]any{"Events": events})
		}
		if err := printTable(cmd.OutOrStdout(), auditRows(events)); err != nil {
			return err
		}
		if more {
			fmt.Fprintln(cmd.OutOrStdout(), "and more: narrow it down, or raise --limit")
		}
		return nil
	})
}

// auditEvents asks page by page.
func (c *client) auditEvents(ctx context.Context, w auditWish, now time.Time) (events []audit.AuditEvent, more bool, err error) {
	from := now.Add(-w.since).UTC().Format(time.RFC3339Nano)
	request := audit.ListAuditEventsRequest{
		StartTime: &from, Principal: unlessEmpty(w.principal), Action: unlessEmpty(w.action), Resource: unlessEmpty(w.resource),
	}
	if w.outcome != "" {
		outcome := audit.Outcome(w.outcome)
		request.Outcome = &outcome
	}
	events = []audit.AuditEvent{}
	for len(events) < w.limit {
		size := int32(min(500, w.limit-len(events)))
		request.MaxResults = &size
		page, err := c.ListAuditEvents(ctx, request)
		if err != nil {
			return nil, false, err
		}
		events = append(events, page.Events...)
		if page.NextToken == "" {
			return events, false, nil
		}
		request.NextToken = &page.NextToken
	}
	return events, true, nil
}

func auditRows(events []audit.AuditEvent) [][]string {
	rows := [][]string{{"TIME", "OUTCOME", "ACTION", "PRINCIPAL", "RESOURCE", "FROM", "REQUEST"}}
	for _, e := range events {
		outcome := string(e.Outcome)
		if e.Code != "" {
			outcome += " " + e.Code
		}
		resource := e.Resource
		if e.ResourceId != "" {
			resource += " " + e.ResourceId
		}
		rows = append(rows, []string{e.Time, outcome, e.Action, e.Principal, resource, e.SourceIp, e.EventRequestId})
	}
	return rows
}
