package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/apig"
)

// usageWish is what the flags of usage say.
type usageWish struct {
	api, service, model, consumer string
	since                         time.Duration
	by                            []string
}

func (p *program) usage() *cobra.Command {
	var w usageWish
	cmd := &cobra.Command{
		Use: "usage", Short: "See what was used: requests and tokens", Args: cobra.NoArgs,
		Long: `Sums up the requests to Model APIs, and to model services that were called directly. A request counts about a second
after it ended.`,
		Example: "  engineshed usage --by api,model\n  engineshed usage --api chat --since 168h --by consumer,day",
	}
	flags := cmd.Flags()
	flags.StringVar(&w.api, "api", "", "only this Model API: name or id")
	flags.StringVar(&w.service, "service", "", "only this service: name, svc-… or ms-…")
	flags.StringVar(&w.model, "model", "", "only this model, as it was served")
	flags.StringVar(&w.consumer, "consumer", "", "only this consumer: name or id")
	flags.DurationVar(&w.since, "since", 24*time.Hour, "how far back")
	flags.StringSliceVar(&w.by, "by", []string{"api"}, "what to sum up for: api, service, model, consumer, endState, day; empty: one sum")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		return c.printUsage(ctx, cmd, w, time.Now())
	})
}

func (c *client) printUsage(ctx context.Context, cmd *cobra.Command, w usageWish, now time.Time) error {
	if w.since <= 0 {
		return fmt.Errorf("--since %s: say how far back, such as 24h", w.since)
	}
	from, to, size, number := now.Add(-w.since).UnixMilli(), now.UnixMilli(), int32(500), int32(1)
	params := apig.ListUsageParams{
		StartTime: &from, EndTime: &to, HttpApi: unlessEmpty(w.api), Service: unlessEmpty(w.service), Model: unlessEmpty(w.model),
		Consumer: unlessEmpty(w.consumer), PageNumber: &number, PageSize: &size,
	}
	if len(w.by) > 0 {
		params.GroupBy = &w.by
	}
	page, err := c.ListUsage(ctx, params)
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), page)
	}
	if err := printTable(cmd.OutOrStdout(), usageRows(page.Items, w.by)); err != nil {
		return err
	}
	if more := int(page.TotalSize) - len(page.Items); more > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "and %d more: narrow it down, or ask with -o json and ListUsage page by page\n", more)
	}
	return nil
}

func unlessEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func usageRows(sums []apig.UsageSum, by []string) [][]string {
	var heading []string
	for _, dimension := range by {
		heading = append(heading, strings.ToUpper(dimension))
	}
	rows := [][]string{append(heading, "REQUESTS", "INPUT", "OUTPUT", "TOKENS", "UNKNOWN", "AVERAGE", "FIRST CONTENT")}
	for _, s := range sums {
		var row []string
		for _, dimension := range by {
			row = append(row, or(shown(s, dimension), "-"))
		}
		first := "-"
		if s.AverageFirstContent != nil {
			first = fmt.Sprintf("%d ms", *s.AverageFirstContent)
		}
		for _, n := range []int64{s.RequestCount, s.InputTokens, s.OutputTokens, s.TotalTokens, s.UnknownCount} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		rows = append(rows, append(row, fmt.Sprintf("%d ms", s.AverageDuration), first))
	}
	return rows
}

// shown is a member of a sum for people: a name before an id.
func shown(s apig.UsageSum, dimension string) string {
	members := map[string][]*string{
		"api": {s.HttpApiName, s.HttpApiId}, "service": {s.ServiceName, s.ServiceId}, "model": {s.Model},
		"consumer": {s.ConsumerName, s.ConsumerId}, "endState": {s.EndState}, "day": {s.Day},
	}
	for _, member := range members[dimension] {
		if member != nil && *member != "" {
			return *member
		}
	}
	return ""
}
