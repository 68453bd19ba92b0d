package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

func (p *program) aiNode() *cobra.Command {
	cmd := &cobra.Command{Use: "ai-node", Short: "See where models can run, add places and delete them"}
	cmd.AddCommand(p.clientCommand(&cobra.Command{
		Use: "list", Short: "List the AI nodes of a DB instance", Args: cobra.NoArgs,
	}, listAINodes), p.addAINode(), p.deleteAINode())
	return cmd
}

func listAINodes(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	instance, err := c.instance(ctx)
	if err != nil {
		return err
	}
	pools, err := c.ListAINodePools(ctx, gpdb.ListAINodePoolsRequest{DBInstanceId: instance})
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), pools)
	}
	rows := [][]string{{"AI NODE", "KIND", "HOST", "STATUS", "MODEL SERVICE", "POOL"}}
	for _, pool := range pools.AINodePoolInfos {
		for _, node := range pool.AINodeInfos {
			rows = append(rows, []string{
				node.NodeName, node.NodeSpec, node.ZoneId, string(node.BindStatus), or(node.ModelServiceId, "-"), pool.AINodePoolId,
			})
		}
	}
	return printTable(cmd.OutOrStdout(), rows)
}
