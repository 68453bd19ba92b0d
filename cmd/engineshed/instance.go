package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

func (p *program) dbInstance() *cobra.Command {
	cmd := &cobra.Command{Use: "instance", Short: "Make DB instances, the owners of AI nodes and model services, see them, delete them"}
	cmd.AddCommand(
		p.createInstance(),
		p.clientCommand(&cobra.Command{Use: "list", Short: "List the DB instances of the account", Args: cobra.NoArgs}, listInstances),
		p.clientCommand(&cobra.Command{
			Use: "describe [DB_INSTANCE_ID]", Short: "Show one DB instance", Args: cobra.MaximumNArgs(1),
		}, describeInstance),
		p.deleteInstance(),
	)
	return cmd
}

// instanceWish is what the flags of instance create say.
type instanceWish struct {
	description, ipList, token string
	kind                       string
	nodes                      int
	tags                       map[string]string
}

func (p *program) createInstance() *cobra.Command {
	var w instanceWish
	cmd := &cobra.Command{
		Use: "create", Short: "Make a DB instance with AI nodes", Args: cobra.NoArgs,
		Example: "  engineshed instance create --description \"the search team\" --nodes 2 --kind ADB.AILarge.1",
	}
	flags := cmd.Flags()
	flags.StringVar(&w.description, "description", "", "a name for people")
	flags.IntVar(&w.nodes, "nodes", 1, "how many AI nodes to create with it")
	flags.StringVar(&w.kind, "kind", "ADB.AILarge.1", "kind of the AI nodes")
	flags.StringVar(&w.ipList, "security-ip-list", "", "addresses that may call its model services, separated by commas (default: 127.0.0.1)")
	flags.StringToStringVar(&w.tags, "tag", nil, "tag as KEY=VALUE, repeat for more")
	flags.StringVar(&w.token, "client-token", "", "makes the call happen once (default: a new one)")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		return c.createInstance(ctx, cmd.OutOrStdout(), w)
	})
}

func (c *client) createInstance(ctx context.Context, out io.Writer, w instanceWish) error {
	region, err := c.region(ctx)
	if err != nil {
		return err
	}
	w.token = or(w.token, rand.Text())
	request := gpdb.CreateDBInstanceRequest{
		RegionId: region, DBInstanceDescription: given(w.description), SecurityIPList: given(w.ipList), ClientToken: &w.token,
	}
	if w.nodes > 0 {
		request.AINodeSpecInfos = &[]gpdb.AINodeSpecInfo{{AINodeSpec: w.kind, AINodeNum: fmt.Sprint(w.nodes)}}
	}
	var tags []gpdb.Tag
	for key, value := range w.tags {
		tags = append(tags, gpdb.Tag{Key: key, Value: &value})
	}
	request.Tag = givenList(tags)
	made, err := c.CreateDBInstance(ctx, request)
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(out, made)
	}
	_, err = fmt.Fprintln(out, made.DBInstanceId)
	return err
}

// region is the region of the endpoint, which tells it when nobody else does.
func (c *client) region(ctx context.Context) (string, error) {
	if c.credentials.RegionID != "" {
		return c.credentials.RegionID, nil
	}
	found, err := c.DescribeRegions(ctx, gpdb.DescribeRegionsRequest{})
	if err != nil {
		return "", err
	}
	if len(found.Regions.Region) != 1 {
		return "", fmt.Errorf("say which region with --region; the endpoint names %d", len(found.Regions.Region))
	}
	return found.Regions.Region[0].RegionId, nil
}

func listInstances(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	region, err := c.region(ctx)
	if err != nil {
		return err
	}
	instances := []gpdb.DBInstance{}
	size := int32(100)
	for number := int32(1); ; number++ {
		page, err := c.DescribeDBInstances(ctx, gpdb.DescribeDBInstancesRequest{RegionId: region, PageNumber: &number, PageSize: &size})
		if err != nil {
			return err
		}
		instances = append(instances, page.Items.DBInstance...)
		if len(page.Items.DBInstance) == 0 || len(instances) >= int(page.TotalRecordCount) {
			break
		}
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), map[string]any{"DBInstances": instances})
	}
	rows := [][]string{{"DB INSTANCE", "DESCRIPTION", "STATUS", "RESOURCE GROUP", "TAGS", "AGE"}}
	for _, i := range instances {
		rows = append(rows, []string{
			i.DBInstanceId, or(i.DBInstanceDescription, "-"), string(i.DBInstanceStatus), i.ResourceGroupId, or(tagList(i.Tags.Tag), "-"),
			age(i.CreateTime, time.Now()),
		})
	}
	return printTable(cmd.OutOrStdout(), rows)
}

func tagList(tags []gpdb.Tag) string {
	var list []string
	for _, tag := range tags {
		value := ""
		if tag.Value != nil {
			value = *tag.Value
		}
		list = append(list, tag.Key+"="+value)
	}
	return strings.Join(list, ",")
}

func describeInstance(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	if len(args) == 1 {
		c.credentials.DBInstanceID = args[0]
	}
	id, err := c.instance(ctx)
	if err != nil {
		return err
	}
	found, err := c.DescribeDBInstanceAttribute(ctx, gpdb.DescribeDBInstanceAttributeRequest{DBInstanceId: id})
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), found)
	}
	for _, i := range found.Items.DBInstanceAttribute {
		if err := printTable(cmd.OutOrStdout(), [][]string{
			{"DB instance", i.DBInstanceId},
			{"Description", i.DBInstanceDescription},
			{"Status", string(i.DBInstanceStatus)},
			{"Region", i.RegionId},
			{"Resource group", i.ResourceGroupId},
			{"Allowed addresses", i.SecurityIPList},
			{"Tags", tagList(i.Tags.Tag)},
			{"Created", i.CreationTime},
		}); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) deleteInstance() *cobra.Command {
	var token string
	cmd := &cobra.Command{Use: "delete DB_INSTANCE_ID", Short: "Delete a DB instance that has no model services", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&token, "client-token", "", "makes the call happen once (default: a new one)")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		token = or(token, rand.Text())
		deleted, err := c.DeleteDBInstance(ctx, gpdb.DeleteDBInstanceRequest{DBInstanceId: args[0], ClientToken: &token})
		if err != nil || c.output != "json" {
			return err
		}
		return printJSON(cmd.OutOrStdout(), deleted)
	})
}
