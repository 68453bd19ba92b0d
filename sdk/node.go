package sdk

import (
	"context"
	"fmt"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

// FreeAINodes names count AI nodes of an instance that no model service uses.
func (c *Client) FreeAINodes(ctx context.Context, dbInstanceID string, count int) ([]string, error) {
	pools, err := c.ListAINodePools(ctx, gpdb.ListAINodePoolsRequest{DBInstanceId: dbInstanceID})
	if err != nil {
		return nil, err
	}
	var free []string
	for _, pool := range pools.AINodePoolInfos {
		for _, node := range pool.AINodeInfos {
			if node.BindStatus == gpdb.Unbound && len(free) < count {
				free = append(free, node.NodeName)
			}
		}
	}
	if len(free) < count {
		return nil, fmt.Errorf("%d free AI nodes are needed and %s has %d: delete a model service or add nodes", count, dbInstanceID, len(free))
	}
	return free, nil
}
