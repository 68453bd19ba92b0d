package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

func (p *program) securityIPs() *cobra.Command {
	cmd := &cobra.Command{
		Use: "security-ips", Short: "See and change who may call model services",
		Long: `The IP array "default" of a DB instance decides who may call its model services, but for those that have an array of
their own, named like the model service.`,
		Example: "  engineshed security-ips add 10.0.0.0/8\n  engineshed security-ips set 192.0.2.7 --array ms-0123456789abcdefghij",
	}
	var name string
	list := &cobra.Command{Use: "list", Short: "List the IP arrays of a DB instance", Args: cobra.NoArgs}
	list.Flags().StringVar(&name, "array", "", "only this one")
	cmd.AddCommand(
		p.clientCommand(list, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			return c.listSecurityIPs(ctx, cmd.OutOrStdout(), name)
		}),
		p.changeSecurityIPs("set", "Put addresses in the place of an array's", gpdb.Cover),
		p.changeSecurityIPs("add", "Add addresses to an array", gpdb.Append),
		p.changeSecurityIPs("delete", "Take addresses out of an array", gpdb.Delete),
	)
	return cmd
}

func (p *program) changeSecurityIPs(use, short string, mode gpdb.ModifySecurityIpsRequestModifyMode) *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: use + " ADDRESS...", Short: short, Args: cobra.MinimumNArgs(1)}
	cmd.Flags().StringVar(&name, "array", "default", "the array: default, the id of a model service, or another name")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		instance, err := c.instance(ctx)
		if err != nil {
			return err
		}
		if _, err := c.ModifySecurityIps(ctx, gpdb.ModifySecurityIpsRequest{
			DBInstanceId: instance, DBInstanceIPArrayName: &name, ModifyMode: &mode, SecurityIPList: strings.Join(args, ","),
		}); err != nil {
			return err
		}
		return c.listSecurityIPs(ctx, cmd.OutOrStdout(), name)
	})
}

func (c *client) listSecurityIPs(ctx context.Context, out io.Writer, name string) error {
	instance, err := c.instance(ctx)
	if err != nil {
		return err
	}
	found, err := c.DescribeDBInstanceIPArrayList(ctx, gpdb.DescribeDBInstanceIPArrayListRequest{
		DBInstanceId: instance, DBInstanceIPArrayName: given(name),
	})
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(out, found)
	}
	rows := [][]string{{"ARRAY", "ATTRIBUTE", "ADDRESSES"}}
	for _, a := range found.Items.DBInstanceIPArray {
		rows = append(rows, []string{a.DBInstanceIPArrayName, or(a.DBInstanceIPArrayAttribute, "-"), a.SecurityIPList})
	}
	return printTable(out, rows)
}
