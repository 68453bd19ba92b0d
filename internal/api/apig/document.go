package apig

import (
	"context"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/modelapi"
	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// GetHttpApiRevision shows what was deployed of a Model API.
func (s *Server) GetHttpApiRevision(ctx context.Context, req apigapi.GetHttpApiRevisionRequestObject) (apigapi.GetHttpApiRevisionResponseObject, error) {
	found, document, err := s.APIs.DescribeRevision(ctx, accountOf(ctx), req.HttpApiId, req.RevisionId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetHttpApiRevision200JSONResponse(success(ctx, fromRevisionContent(found, document))), nil
}

// DiffHttpApiRevision shows what changes from one revision of a Model API to another.
func (s *Server) DiffHttpApiRevision(ctx context.Context, req apigapi.DiffHttpApiRevisionRequestObject) (apigapi.DiffHttpApiRevisionResponseObject, error) {
	found, err := s.APIs.Diff(ctx, accountOf(ctx), req.HttpApiId, orZero(req.Params.From), orZero(req.Params.To))
	if err != nil {
		return nil, err
	}
	return apigapi.DiffHttpApiRevision200JSONResponse(success(ctx, fromDifference(req.HttpApiId, found))), nil
}

// ExportHttpApi shows a Model API as one document.
func (s *Server) ExportHttpApi(ctx context.Context, req apigapi.ExportHttpApiRequestObject) (apigapi.ExportHttpApiResponseObject, error) {
	document, err := s.APIs.Export(ctx, accountOf(ctx), req.HttpApiId, orZero(req.Params.Revision))
	if err != nil {
		return nil, err
	}
	return apigapi.ExportHttpApi200JSONResponse(success(ctx, fromDocument(document))), nil
}

// ImportHttpApi creates or changes the Model API that a document describes.
func (s *Server) ImportHttpApi(ctx context.Context, req apigapi.ImportHttpApiRequestObject) (apigapi.ImportHttpApiResponseObject, error) {
	document, dryRun := toDocument(req.Body.Document), orZero(req.Body.DryRun)
	result, err := s.APIs.Import(ctx, accountOf(ctx), document, dryRun, func(id string) error { return mayImport(ctx, id, document) })
	if err != nil {
		return nil, err
	}
	return apigapi.ImportHttpApi200JSONResponse(success(ctx, fromImported(result, dryRun))), nil
}

// mayImport refuses a caller who could not do with the other operations what the import does. The id is that of the
// API there is, if there is one.
func mayImport(ctx context.Context, id string, document modelapi.Document) error {
	operation := "UpdateHttpApi"
	if id == "" {
		operation = "CreateHttpApi"
	}
	if err := api.Require(ctx, operation, map[string]any{"httpApiId": id}); err != nil || !document.SaysWhoMayCall() {
		return err
	}
	if err := api.Require(ctx, "CreateConsumerAuthorizationRules", nil); err != nil {
		return err
	}
	return api.Require(ctx, "BatchDeleteConsumerAuthorizationRule", nil)
}
