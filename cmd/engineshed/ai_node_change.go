package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

func (p *program) addAINode() *cobra.Command {
	var kind, pool string
	var count int
	cmd := &cobra.Command{
		Use: "add", Short: "Add AI nodes to a DB instance", Args: cobra.NoArgs,
		Example: "  engineshed ai-node add --count 2 --kind ADB.AIMedium.1",
	}
	flags := cmd.Flags()
	flags.IntVar(&count, "count", 1, "how many")
	flags.StringVar(&kind, "kind", "ADB.AILarge.1", "kind: ADB.AIStandard.N is a quarter of an accelerator, ADB.AIMedium.N half, ADB.AILarge.N one, ADB.AIXLarge.N two, ADB.AI2XLarge.N four")
	flags.StringVar(&pool, "pool", "", "AI node pool (default: the instance's oldest)")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		instance, err := c.instance(ctx)
		if err != nil {
			return err
		}
		added, err := c.AddAINode(ctx, gpdb.AddAINodeRequest{
			DBInstanceId: instance, AINodePoolId: given(pool),
			AINodeSpecInfos: []gpdb.AddedAINodeSpecInfo{{NodeSpec: kind, NodeNum: fmt.Sprint(count)}},
		})
		if err != nil {
			return err
		}
		return c.printNodes(cmd.OutOrStdout(), added, added.NodeNames)
	})
}

func (p *program) deleteAINode() *cobra.Command {
	var pool string
	var count int32
	cmd := &cobra.Command{
		Use: "delete [AI_NODE...]", Short: "Delete AI nodes that no model service uses: the named ones, or so many free ones",
		Example: "  engineshed ai-node delete ai-0123456789abcdefghij\n  engineshed ai-node delete --count 2",
	}
	flags := cmd.Flags()
	flags.Int32Var(&count, "count", 0, "how many free ones, the newest first")
	flags.StringVar(&pool, "pool", "", "only of this AI node pool")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		if (len(args) == 0) == (count == 0) {
			return fmt.Errorf("name the AI nodes, or say how many free ones with --count")
		}
		instance, err := c.instance(ctx)
		if err != nil {
			return err
		}
		request := gpdb.DeleteAINodeRequest{DBInstanceId: instance, AINodePoolId: given(pool)}
		if len(args) > 0 {
			request.NodeNames = &args
		} else {
			request.AINodeNum = &count
		}
		deleted, err := c.DeleteAINode(ctx, request)
		if err != nil {
			return err
		}
		return c.printNodes(cmd.OutOrStdout(), deleted, deleted.NodeNames)
	})
}

// printNodes prints an answer, or only the nodes that it is about.
func (c *client) printNodes(out io.Writer, answer any, names []string) error {
	if c.output == "json" {
		return printJSON(out, answer)
	}
	for _, name := range names {
		if _, err := fmt.Fprintln(out, name); err != nil {
			return err
		}
	}
	return nil
}
