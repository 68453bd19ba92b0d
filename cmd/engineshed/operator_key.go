package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

func (p *program) operatorKey() *cobra.Command {
	cmd := &cobra.Command{
		Use: "operator-key", Short: "Make keys that open every model service of the account, see them and what they used",
	}
	cmd.AddCommand(
		p.clientCommand(&cobra.Command{
			Use: "create DESCRIPTION", Short: "Make a key and show it with its endpoint", Args: cobra.ExactArgs(1),
		}, createOperatorKey),
		p.clientCommand(&cobra.Command{Use: "list", Short: "List the keys of the account", Args: cobra.NoArgs}, listOperatorKeys),
		p.clientCommand(&cobra.Command{Use: "describe API_KEY_ID", Short: "Show one key", Args: cobra.ExactArgs(1)}, describeOperatorKey),
		p.clientCommand(&cobra.Command{
			Use: "delete API_KEY_ID", Short: "Delete a key: it opens nothing any more", Args: cobra.ExactArgs(1),
		}, deleteOperatorKey),
		p.clientCommand(&cobra.Command{Use: "services", Short: "List the model services that the keys open", Args: cobra.NoArgs}, listOperatorServices),
		p.operatorUsage(),
	)
	return cmd
}

func createOperatorKey(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	made, err := c.CreateModelOperatorApiKey(ctx, gpdb.CreateModelOperatorApiKeyRequest{Description: args[0]})
	if err != nil {
		return err
	}
	return c.printOperatorKey(ctx, cmd.OutOrStdout(), made.ApiKeyId)
}

func describeOperatorKey(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := apiKeyID(args[0])
	if err != nil {
		return err
	}
	return c.printOperatorKey(ctx, cmd.OutOrStdout(), id)
}

func apiKeyID(text string) (int32, error) {
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not the number of a key; `engineshed operator-key list` shows them", text)
	}
	return int32(id), nil
}

func (c *client) printOperatorKey(ctx context.Context, out io.Writer, id int32) error {
	key, err := c.DescribeModelOperatorApiKey(ctx, gpdb.DescribeModelOperatorApiKeyRequest{ApiKeyId: id})
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(out, key)
	}
	return printTable(out, [][]string{
		{"Key", strconv.Itoa(int(key.ApiKeyId))},
		{"Description", key.Description},
		{"Endpoint", key.Endpoint},
		{"ApiKey", key.ApiKey},
		{"Created", key.CreateTime},
	})
}

func deleteOperatorKey(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := apiKeyID(args[0])
	if err != nil {
		return err
	}
	deleted, err := c.DeleteModelOperatorApiKey(ctx, gpdb.DeleteModelOperatorApiKeyRequest{ApiKeyId: id})
	if err != nil || c.output != "json" {
		return err
	}
	return printJSON(cmd.OutOrStdout(), deleted)
}

func listOperatorKeys(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	size := int32(100) // more than an account may have
	found, err := c.ListModelOperatorApiKeys(ctx, gpdb.ListModelOperatorApiKeysRequest{PageSize: &size})
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), found)
	}
	rows := [][]string{{"KEY", "DESCRIPTION", "ENDPOINT", "AGE"}}
	for _, k := range found.ApiKeys {
		rows = append(rows, []string{strconv.Itoa(int(k.ApiKeyId)), k.Description, k.Endpoint, age(k.CreateTime, time.Now())})
	}
	return printTable(cmd.OutOrStdout(), rows)
}

func listOperatorServices(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	services := []gpdb.ModelOperatorService{}
	size := int32(100)
	for number := int32(1); ; number++ {
		page, err := c.ListModelOperatorServices(ctx, gpdb.ListModelOperatorServicesRequest{PageNumber: &number, PageSize: &size})
		if err != nil {
			return err
		}
		services = append(services, page.Services...)
		if len(page.Services) == 0 || len(services) >= int(page.TotalRecordCount) {
			break
		}
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), map[string]any{"Services": services})
	}
	rows := [][]string{{"MODEL SERVICE", "MODEL"}}
	for _, s := range services {
		rows = append(rows, []string{s.ServiceId, s.ModelName})
	}
	return printTable(cmd.OutOrStdout(), rows)
}

// operatorUsageWish is what the flags of operator-key usage say.
type operatorUsageWish struct {
	since  time.Duration
	by     string
	keys   []int32
	models []string
}

func (p *program) operatorUsage() *cobra.Command {
	var w operatorUsageWish
	cmd := &cobra.Command{Use: "usage", Short: "See what was used with the keys, in all of the time", Args: cobra.NoArgs}
	flags := cmd.Flags()
	flags.DurationVar(&w.since, "since", 24*time.Hour, "how far back, at most 168h")
	flags.StringVar(&w.by, "by", "model,api_key", "what to sum up for: model, api_key or model,api_key")
	flags.Int32SliceVar(&w.keys, "key", nil, "only this key, repeat for more")
	flags.StringSliceVar(&w.models, "model", nil, "only this model, repeat for more")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		return c.printOperatorUsage(ctx, cmd.OutOrStdout(), w, time.Now())
	})
}

func (c *client) printOperatorUsage(ctx context.Context, out io.Writer, w operatorUsageWish, now time.Time) error {
	const minute = "2006-01-02T15:04Z"
	end := now.UTC().Truncate(time.Minute).Add(time.Minute)
	from, to, by, period := end.Add(-w.since).Format(minute), end.Format(minute), gpdb.DescribeModelOperatorUsageRequestGroupBy(w.by),
		gpdb.DescribeModelOperatorUsageRequestPeriod(3600)
	used, err := c.DescribeModelOperatorUsage(ctx, gpdb.DescribeModelOperatorUsageRequest{
		StartTime: &from, EndTime: &to, GroupBy: &by, Period: &period, ApiKeyIds: givenList(w.keys), ModelNames: givenList(w.models),
	})
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(out, used)
	}
	return printTable(out, operatorUsageRows(used))
}

func givenList[T any](list []T) *[]T {
	if len(list) == 0 {
		return nil
	}
	return &list
}

// operatorUsageRows sum up the points of each series. A rate is no sum: the counts say as much.
func operatorUsageRows(used *gpdb.DescribeModelOperatorUsageResponse) [][]string {
	rows := [][]string{{"MODEL", "KEY", "REQUESTS", "SUCCEEDED", "FAILED", "INPUT", "OUTPUT", "TOKENS"}}
	for _, key := range used.Keys {
		if key.Unit == gpdb.Percent {
			continue
		}
		for n, series := range key.Series {
			if len(rows) <= n+1 {
				rows = append(rows, operatorUsageHead(series))
			}
			rows[n+1] = append(rows[n+1], strconv.FormatInt(sum(series.Values), 10))
		}
	}
	return rows
}

func operatorUsageHead(series gpdb.ModelOperatorUsageSeries) []string {
	switch {
	case series.ApiKeyId == nil:
		return []string{series.Name, "-"}
	case series.Role == string(gpdb.ByApiKey):
		return []string{"-", series.Name}
	}
	return []string{series.Name, strconv.Itoa(int(*series.ApiKeyId))}
}

func sum(values []gpdb.ModelOperatorUsageValue) (total int64) {
	for _, v := range values {
		if len(v.Point) == 2 {
			n, _ := strconv.ParseInt(v.Point[1], 10, 64) // counts are whole numbers
			total += n
		}
	}
	return total
}
