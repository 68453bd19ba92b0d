package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

// pollInterval is how often the waiting calls ask.
const pollInterval = 500 * time.Millisecond

// WaitModelService waits until a service is active and returns it. It calls each, which may be nil, with every answer
// on the way. It gives up with an error when the service has failed, when the API refuses, or when ctx ends.
func (c *Client) WaitModelService(ctx context.Context, dbInstanceID, modelServiceID string, each func(*gpdb.DescribeModelServiceResponse)) (*gpdb.DescribeModelServiceResponse, error) {
	return c.poll(ctx, dbInstanceID, modelServiceID, func(service *gpdb.DescribeModelServiceResponse) (bool, error) {
		if each != nil {
			each(service)
		}
		if service.Status == gpdb.Failed || service.Status == gpdb.Deleting {
			return true, fmt.Errorf("the model service %s is %s: %s", modelServiceID, service.Status, service.StatusReason)
		}
		return service.Status == gpdb.Active, nil
	})
}

// WaitModelServiceChanged waits until a service is active and all its replicas are as ModifyModelService asked for, and
// returns it. It calls each, which may be nil, with every answer on the way. It gives up like WaitModelService.
func (c *Client) WaitModelServiceChanged(ctx context.Context, dbInstanceID, modelServiceID string, each func(*gpdb.DescribeModelServiceResponse)) (*gpdb.DescribeModelServiceResponse, error) {
	return c.poll(ctx, dbInstanceID, modelServiceID, func(service *gpdb.DescribeModelServiceResponse) (bool, error) {
		if each != nil {
			each(service)
		}
		if service.Status == gpdb.Failed || service.Status == gpdb.Deleting {
			return true, fmt.Errorf("the model service %s is %s: %s", modelServiceID, service.Status, service.StatusReason)
		}
		done := service.Status == gpdb.Active && len(service.Replicas) == int(service.ReplicaCount)
		for _, r := range service.Replicas {
			done = done && ServesAsAsked(r)
		}
		return done, nil
	})
}

// ServesAsAsked reports whether the replica answers with the parameters of its service, on a node that stays.
func ServesAsAsked(r gpdb.ModelServiceReplica) bool {
	return r.Status == gpdb.ReplicaActive && r.UpToDate
}

// WaitModelServiceGone waits until a service that is being deleted does not exist any more. It calls each, which may be
// nil, with every answer on the way.
func (c *Client) WaitModelServiceGone(ctx context.Context, dbInstanceID, modelServiceID string, each func(*gpdb.DescribeModelServiceResponse)) error {
	_, err := c.poll(ctx, dbInstanceID, modelServiceID, func(service *gpdb.DescribeModelServiceResponse) (bool, error) {
		if each != nil {
			each(service)
		}
		return false, nil
	})
	var refused *Error
	if errors.As(err, &refused) && refused.Code == "InvalidModelServiceId.NotFound" {
		return nil
	}
	return err
}

// poll describes a service until done says so.
func (c *Client) poll(ctx context.Context, dbInstanceID, modelServiceID string, done func(*gpdb.DescribeModelServiceResponse) (bool, error)) (*gpdb.DescribeModelServiceResponse, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		service, err := c.DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{DBInstanceId: dbInstanceID, ModelServiceId: modelServiceID})
		if err != nil {
			return nil, err
		}
		if ended, err := done(service); ended || err != nil {
			return service, err
		}
		select {
		case <-ctx.Done():
			return service, fmt.Errorf("the model service %s is still %s: %w", modelServiceID, service.Status, ctx.Err())
		case <-ticker.C:
		}
	}
}
