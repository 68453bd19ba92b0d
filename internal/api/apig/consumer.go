package apig

import (
	"context"

	"github.com/engineshed/engineshed/internal/consumer"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateConsumer makes a consumer.
func (s *Server) CreateConsumer(ctx context.Context, req apigapi.CreateConsumerRequestObject) (apigapi.CreateConsumerResponseObject, error) {
	created, err := s.Consumers.Create(ctx, accountOf(ctx), toConsumerSpec(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateConsumer200JSONResponse(success(ctx, apigapi.CreatedConsumer{ConsumerId: created.ID})), nil
}

// ListConsumers shows one page of the consumers, without their keys.
func (s *Server) ListConsumers(ctx context.Context, req apigapi.ListConsumersRequestObject) (apigapi.ListConsumersResponseObject, error) {
	filter := consumer.Filter{NameLike: orZero(req.Params.NameLike), Page: toPage(req.Params.PageNumber, req.Params.PageSize)}
	found, total, err := s.Consumers.List(ctx, accountOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	return apigapi.ListConsumers200JSONResponse(success(ctx, fromConsumers(found, filter.Page, total))), nil
}

// GetConsumer shows one consumer with its keys.
func (s *Server) GetConsumer(ctx context.Context, req apigapi.GetConsumerRequestObject) (apigapi.GetConsumerResponseObject, error) {
	found, err := s.Consumers.Get(ctx, accountOf(ctx), req.ConsumerId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetConsumer200JSONResponse(success(ctx, fromConsumer(found))), nil
}

// UpdateConsumer changes a consumer.
func (s *Server) UpdateConsumer(ctx context.Context, req apigapi.UpdateConsumerRequestObject) (apigapi.UpdateConsumerResponseObject, error) {
	if err := s.Consumers.Update(ctx, accountOf(ctx), req.ConsumerId, toConsumerChange(req.Body)); err != nil {
		return nil, err
	}
	return apigapi.UpdateConsumer200JSONResponse(done(ctx)), nil
}

// DeleteConsumer deletes a consumer.
func (s *Server) DeleteConsumer(ctx context.Context, req apigapi.DeleteConsumerRequestObject) (apigapi.DeleteConsumerResponseObject, error) {
	if err := s.Consumers.Delete(ctx, accountOf(ctx), req.ConsumerId); err != nil {
		return nil, err
	}
	return apigapi.DeleteConsumer200JSONResponse(done(ctx)), nil
}
