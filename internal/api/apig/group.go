package apig

import (
	"context"

	"github.com/engineshed/engineshed/internal/consumer"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateConsumerGroup makes a consumer group.
func (s *Server) CreateConsumerGroup(ctx context.Context, req apigapi.CreateConsumerGroupRequestObject) (apigapi.CreateConsumerGroupResponseObject, error) {
	created, err := s.Groups.CreateGroup(ctx, accountOf(ctx), req.Body.Name, orZero(req.Body.Description))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateConsumerGroup200JSONResponse(success(ctx, apigapi.CreatedConsumerGroup{ConsumerGroupId: created.ID})), nil
}

// ListConsumerGroups shows one page of the consumer groups.
func (s *Server) ListConsumerGroups(ctx context.Context, req apigapi.ListConsumerGroupsRequestObject) (apigapi.ListConsumerGroupsResponseObject, error) {
	filter := consumer.Filter{NameLike: orZero(req.Params.NameLike), Page: toPage(req.Params.PageNumber, req.Params.PageSize)}
	found, total, err := s.Groups.ListGroups(ctx, accountOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	return apigapi.ListConsumerGroups200JSONResponse(success(ctx, fromGroups(found, filter.Page, total))), nil
}

// GetConsumerGroup shows one consumer group.
func (s *Server) GetConsumerGroup(ctx context.Context, req apigapi.GetConsumerGroupRequestObject) (apigapi.GetConsumerGroupResponseObject, error) {
	found, err := s.Groups.GetGroup(ctx, accountOf(ctx), req.ConsumerGroupId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetConsumerGroup200JSONResponse(success(ctx, fromGroup(found))), nil
}

// UpdateConsumerGroup changes a consumer group.
func (s *Server) UpdateConsumerGroup(ctx context.Context, req apigapi.UpdateConsumerGroupRequestObject) (apigapi.UpdateConsumerGroupResponseObject, error) {
	if err := s.Groups.UpdateGroup(ctx, accountOf(ctx), req.ConsumerGroupId, consumer.GroupChange{Name: req.Body.Name, Description: req.Body.Description}); err != nil {
		return nil, err
	}
	return apigapi.UpdateConsumerGroup200JSONResponse(done(ctx)), nil
}

// DeleteConsumerGroup deletes a consumer group.
func (s *Server) DeleteConsumerGroup(ctx context.Context, req apigapi.DeleteConsumerGroupRequestObject) (apigapi.DeleteConsumerGroupResponseObject, error) {
	if err := s.Groups.DeleteGroup(ctx, accountOf(ctx), req.ConsumerGroupId); err != nil {
		return nil, err
	}
	return apigapi.DeleteConsumerGroup200JSONResponse(done(ctx)), nil
}

// BatchAddConsumerGroupConsumers puts consumers into a group.
func (s *Server) BatchAddConsumerGroupConsumers(ctx context.Context, req apigapi.BatchAddConsumerGroupConsumersRequestObject) (apigapi.BatchAddConsumerGroupConsumersResponseObject, error) {
	if err := s.Groups.AddMembers(ctx, accountOf(ctx), req.ConsumerGroupId, req.Body.ConsumerIds); err != nil {
		return nil, err
	}
	return apigapi.BatchAddConsumerGroupConsumers200JSONResponse(done(ctx)), nil
}

// BatchRemoveConsumerGroupConsumers takes consumers out of a group.
func (s *Server) BatchRemoveConsumerGroupConsumers(ctx context.Context, req apigapi.BatchRemoveConsumerGroupConsumersRequestObject) (apigapi.BatchRemoveConsumerGroupConsumersResponseObject, error) {
	if err := s.Groups.RemoveMembers(ctx, accountOf(ctx), req.ConsumerGroupId, req.Body.ConsumerIds); err != nil {
		return nil, err
	}
	return apigapi.BatchRemoveConsumerGroupConsumers200JSONResponse(done(ctx)), nil
}

// ListConsumerGroupConsumers shows one page of the consumers of a group.
func (s *Server) ListConsumerGroupConsumers(ctx context.Context, req apigapi.ListConsumerGroupConsumersRequestObject) (apigapi.ListConsumerGroupConsumersResponseObject, error) {
	page := toPage(req.Params.PageNumber, req.Params.PageSize)
	found, total, err := s.Groups.ListMembers(ctx, accountOf(ctx), req.ConsumerGroupId, page)
	if err != nil {
		return nil, err
	}
	return apigapi.ListConsumerGroupConsumers200JSONResponse(success(ctx, fromConsumers(found, page, total))), nil
}
