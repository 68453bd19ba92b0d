package apig

import (
	"context"

	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
)

// CreateHttpApi makes a Model API with its default routes.
func (s *Server) CreateHttpApi(ctx context.Context, req apigapi.CreateHttpApiRequestObject) (apigapi.CreateHttpApiResponseObject, error) {
	created, err := s.APIs.Create(ctx, accountOf(ctx), toAPISpec(req.Body))
	if err != nil {
		return nil, err
	}
	return apigapi.CreateHttpApi200JSONResponse(success(ctx, apigapi.CreatedHttpApi{HttpApiId: created.ID, Name: created.Name})), nil
}

// ListHttpApis shows one page of the Model APIs.
func (s *Server) ListHttpApis(ctx context.Context, req apigapi.ListHttpApisRequestObject) (apigapi.ListHttpApisResponseObject, error) {
	filter := toAPIFilter(req.Params)
	found, total, err := s.APIs.List(ctx, accountOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	return apigapi.ListHttpApis200JSONResponse(success(ctx, fromAPIs(found, filter.Page, total))), nil
}

// GetHttpApi shows one Model API.
func (s *Server) GetHttpApi(ctx context.Context, req apigapi.GetHttpApiRequestObject) (apigapi.GetHttpApiResponseObject, error) {
	found, err := s.APIs.Get(ctx, accountOf(ctx), req.HttpApiId)
	if err != nil {
		return nil, err
	}
	return apigapi.GetHttpApi200JSONResponse(success(ctx, fromServedAPI(found))), nil
}

// UpdateHttpApi changes a Model API.
func (s *Server) UpdateHttpApi(ctx context.Context, req apigapi.UpdateHttpApiRequestObject) (apigapi.UpdateHttpApiResponseObject, error) {
	if _, err := s.APIs.Update(ctx, accountOf(ctx), req.HttpApiId, toAPIUpdate(req.Body)); err != nil {
		return nil, err
	}
	return apigapi.UpdateHttpApi200JSONResponse(done(ctx)), nil
}

// DeleteHttpApi deletes a Model API.
func (s *Server) DeleteHttpApi(ctx context.Context, req apigapi.DeleteHttpApiRequestObject) (apigapi.DeleteHttpApiResponseObject, error) {
	if err := s.APIs.Delete(ctx, accountOf(ctx), req.HttpApiId); err != nil {
		return nil, err
	}
	return apigapi.DeleteHttpApi200JSONResponse(done(ctx)), nil
}

// DeployHttpApi makes gateways serve a Model API.
func (s *Server) DeployHttpApi(ctx context.Context, req apigapi.DeployHttpApiRequestObject) (apigapi.DeployHttpApiResponseObject, error) {
	deployed, err := s.APIs.Deploy(ctx, accountOf(ctx), req.HttpApiId)
	if err != nil {
		return nil, err
	}
	return apigapi.DeployHttpApi200JSONResponse(success(ctx, fromDeployed(deployed))), nil
}

// UndeployHttpApi makes gateways stop serving a Model API.
func (s *Server) UndeployHttpApi(ctx context.Context, req apigapi.UndeployHttpApiRequestObject) (apigapi.UndeployHttpApiResponseObject, error) {
	if _, err := s.APIs.Undeploy(ctx, accountOf(ctx), req.HttpApiId); err != nil {
		return nil, err
	}
	return apigapi.UndeployHttpApi200JSONResponse(done(ctx)), nil
}

// ListHttpApiRevisions shows one page of what was deployed of a Model API.
func (s *Server) ListHttpApiRevisions(ctx context.Context, req apigapi.ListHttpApiRevisionsRequestObject) (apigapi.ListHttpApiRevisionsResponseObject, error) {
	page := toPage(req.Params.PageNumber, req.Params.PageSize)
	found, total, err := s.APIs.ListRevisions(ctx, accountOf(ctx), req.HttpApiId, page)
	if err != nil {
		return nil, err
	}
	return apigapi.ListHttpApiRevisions200JSONResponse(success(ctx, fromRevisions(found, page, total))), nil
}

// RollbackHttpApi deploys an earlier revision of a Model API.
func (s *Server) RollbackHttpApi(ctx context.Context, req apigapi.RollbackHttpApiRequestObject) (apigapi.RollbackHttpApiResponseObject, error) {
	deployed, err := s.APIs.Rollback(ctx, accountOf(ctx), req.HttpApiId, req.Body.Revision)
	if err != nil {
		return nil, err
	}
	return apigapi.RollbackHttpApi200JSONResponse(success(ctx, fromDeployed(deployed))), nil
}
