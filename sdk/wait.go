package sdk

import (
	"context"
	"fmt"
	"time"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

// pollInterval is how often WaitModelService asks.
const pollInterval = 500 * time.Millisecond

// WaitModelService waits until a service is active and returns it. It calls each, which may be nil, with every answer
// on the way. It gives up with an error when the service has failed, when the API refuses, or when ctx ends.
func (c *Client) WaitModelService(ctx context.Context, dbInstanceID, modelServiceID string, each func(*gpdb.DescribeModelServiceResponse)) (*gpdb.DescribeModelServiceResponse, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		service, err := c.DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{DBInstanceId: dbInstanceID, ModelServiceId: modelServiceID})
		if err != nil {
			return nil, err
		}
		if each != nil {
			each(service)
		}
		switch service.Status {
		case gpdb.Active:
			return service, nil
		case gpdb.Failed, gpdb.Deleting:
			return service, fmt.Errorf("the model service %s is %s: %s", modelServiceID, service.Status, service.StatusReason)
		}
		select {
		case <-ctx.Done():
			return service, fmt.Errorf("the model service %s is still %s: %w", modelServiceID, service.Status, ctx.Err())
		case <-ticker.C:
		}
	}
}
