package gpdb

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/modelservice"
	gpdbapi "github.com/engineshed/engineshed/internal/oapi/gpdb"
	"github.com/engineshed/engineshed/internal/operator"
	"github.com/engineshed/engineshed/internal/usage"
)

// readOperatorKey is the extension action without which DescribeModelOperatorApiKey masks the ApiKey.
const readOperatorKey = "gpdb:GetModelOperatorApiKey"

// CreateModelOperatorApiKey makes a key.
func (s *Server) CreateModelOperatorApiKey(ctx context.Context, req gpdbapi.CreateModelOperatorApiKeyRequestObject) (gpdbapi.CreateModelOperatorApiKeyResponseObject, error) {
	id, err := s.operators.Create(ctx, access.CallerFrom(ctx).AccountID, req.Body.Description)
	if err != nil {
		return nil, err
	}
	return gpdbapi.CreateModelOperatorApiKey200JSONResponse{RequestId: api.RequestID(ctx), ApiKeyId: id}, nil
}

// ListModelOperatorApiKeys shows one page of the account's keys.
func (s *Server) ListModelOperatorApiKeys(ctx context.Context, req gpdbapi.ListModelOperatorApiKeysRequestObject) (gpdbapi.ListModelOperatorApiKeysResponseObject, error) {
	page := toPage(req.Body.PageNumber, req.Body.PageSize)
	keys, total, err := s.operators.List(ctx, access.CallerFrom(ctx).AccountID, page)
	if err != nil {
		return nil, err
	}
	return gpdbapi.ListModelOperatorApiKeys200JSONResponse(fromOperatorKeys(api.RequestID(ctx), keys, page, total)), nil
}

// DescribeModelOperatorApiKey shows one key.
func (s *Server) DescribeModelOperatorApiKey(ctx context.Context, req gpdbapi.DescribeModelOperatorApiKeyRequestObject) (gpdbapi.DescribeModelOperatorApiKeyResponseObject, error) {
	key, err := s.operators.Describe(ctx, access.CallerFrom(ctx).AccountID, req.Body.ApiKeyId)
	if err != nil {
		return nil, err
	}
	withKey, err := api.Allowed(ctx, readOperatorKey)
	if err != nil {
		return nil, err
	}
	return gpdbapi.DescribeModelOperatorApiKey200JSONResponse(fromOperatorKey(api.RequestID(ctx), key, withKey)), nil
}

// DeleteModelOperatorApiKey deletes a key.
func (s *Server) DeleteModelOperatorApiKey(ctx context.Context, req gpdbapi.DeleteModelOperatorApiKeyRequestObject) (gpdbapi.DeleteModelOperatorApiKeyResponseObject, error) {
	if err := s.operators.Delete(ctx, access.CallerFrom(ctx).AccountID, req.Body.ApiKeyId); err != nil {
		return nil, err
	}
	return gpdbapi.DeleteModelOperatorApiKey200JSONResponse{RequestId: api.RequestID(ctx)}, nil
}

// ListModelOperatorServices shows one page of what the account's keys open.
func (s *Server) ListModelOperatorServices(ctx context.Context, req gpdbapi.ListModelOperatorServicesRequestObject) (gpdbapi.ListModelOperatorServicesResponseObject, error) {
	page := toPage(req.Body.PageNumber, req.Body.PageSize)
	services, total, err := s.services.Active(ctx, access.CallerFrom(ctx).AccountID, page)
	if err != nil {
		return nil, err
	}
	return gpdbapi.ListModelOperatorServices200JSONResponse(fromOperatorServices(api.RequestID(ctx), services, page, total)), nil
}

// DescribeModelOperatorUsage shows what was used with the account's keys.
func (s *Server) DescribeModelOperatorUsage(ctx context.Context, req gpdbapi.DescribeModelOperatorUsageRequestObject) (gpdbapi.DescribeModelOperatorUsageResponseObject, error) {
	query, err := toOperatorQuery(req.Body)
	if err != nil {
		return nil, err
	}
	series, query, err := s.usage.Operator(ctx, access.CallerFrom(ctx).AccountID, query)
	if err != nil {
		return nil, err
	}
	return gpdbapi.DescribeModelOperatorUsage200JSONResponse(fromOperatorUsage(api.RequestID(ctx), query, series)), nil
}

func fromOperatorKeys(requestID string, keys []operator.Key, page instance.Page, total int) gpdbapi.ListModelOperatorApiKeysResponse {
	return gpdbapi.ListModelOperatorApiKeysResponse{
		RequestId:        requestID,
		ApiKeys:          mapped(keys, fromListedKey),
		PageNumber:       int32(page.Number),
		PageRecordCount:  int32(len(keys)),
		TotalRecordCount: int32(total),
	}
}

func fromListedKey(key operator.Key) gpdbapi.ModelOperatorApiKey {
	return gpdbapi.ModelOperatorApiKey{
		ApiKeyId: key.ID, Description: key.Description, Endpoint: key.Endpoint, CreateTime: fromTime(key.CreatedAt),
	}
}

func fromOperatorKey(requestID string, key operator.Key, withKey bool) gpdbapi.DescribeModelOperatorApiKeyResponse {
	apiKey := mask(key.Secret)
	if withKey {
		apiKey = key.Secret.Reveal()
	}
	return gpdbapi.DescribeModelOperatorApiKeyResponse{
		RequestId: requestID, ApiKey: apiKey, ApiKeyId: key.ID, Description: key.Description, Endpoint: key.Endpoint,
		CreateTime: fromTime(key.CreatedAt),
	}
}

func fromOperatorServices(requestID string, services []modelservice.Service, page instance.Page, total int) gpdbapi.ListModelOperatorServicesResponse {
	return gpdbapi.ListModelOperatorServicesResponse{
		RequestId: requestID,
		Services: mapped(services, func(svc modelservice.Service) gpdbapi.ModelOperatorService {
			return gpdbapi.ModelOperatorService{ServiceId: svc.ID, ModelName: svc.ModelName}
		}),
		PageNumber:       int32(page.Number),
		PageRecordCount:  int32(len(services)),
		TotalRecordCount: int32(total),
	}
}

func toOperatorQuery(body *gpdbapi.DescribeModelOperatorUsageRequest) (query usage.OperatorQuery, err error) {
	for _, key := range orZero(body.Keys) {
		query.Metrics = append(query.Metrics, usage.Metric(key))
	}
	query.KeyIDs, query.Models = orZero(body.ApiKeyIds), orZero(body.ModelNames)
	query.Period = time.Duration(orZero(body.Period)) * time.Second
	by := string(orZero(body.GroupBy))
	query.ByKey = strings.Contains(by, byKey)
	query.ByModel = by != byKey
	if query.From, err = toMinute("StartTime", body.StartTime); err != nil {
		return query, err
	}
	query.To, err = toMinute("EndTime", body.EndTime)
	return query, err
}

// The words for what series are for.
const (
	byModel = "model"
	byKey   = "api_key"
)

// minute is how times are written where seconds do not count.
const minute = "2006-01-02T15:04Z"

// toMinute reads a time of the API, with seconds or without; the zero time is absent.
func toMinute(name string, text *string) (at time.Time, err error) {
	if orZero(text) == "" {
		return at, nil
	}
	if at, err = time.Parse(minute, *text); err != nil {
		at, err = time.Parse("2006-01-02T15:04:05Z", *text)
	}
	if err != nil {
		return at, fault.InvalidParameter(name, "it is a time in UTC such as 2026-03-01T09:30Z.")
	}
	return at, nil
}

func fromOperatorUsage(requestID string, query usage.OperatorQuery, series []usage.OperatorSeries) gpdbapi.DescribeModelOperatorUsageResponse {
	return gpdbapi.DescribeModelOperatorUsageResponse{
		RequestId: requestID,
		StartTime: query.From.UTC().Format(minute),
		EndTime:   query.To.UTC().Format(minute),
		Period:    int32(query.Period / time.Second),
		Keys: mapped(query.Metrics, func(metric usage.Metric) gpdbapi.ModelOperatorUsageKey {
			return gpdbapi.ModelOperatorUsageKey{
				Name: string(metric), Unit: unitOf(metric),
				Series: mapped(series, func(s usage.OperatorSeries) gpdbapi.ModelOperatorUsageSeries {
					return fromOperatorSeries(query, metric, s)
				}),
			}
		}),
	}
}

func unitOf(metric usage.Metric) gpdbapi.ModelOperatorUsageKeyUnit {
	switch metric {
	case usage.SuccessRate:
		return gpdbapi.Percent
	case usage.InputToken, usage.OutputToken, usage.TotalToken:
		return gpdbapi.Tokens
	}
	return gpdbapi.Requests
}

func fromOperatorSeries(query usage.OperatorQuery, metric usage.Metric, s usage.OperatorSeries) gpdbapi.ModelOperatorUsageSeries {
	shown := gpdbapi.ModelOperatorUsageSeries{Name: s.Model, Role: byModel}
	if query.ByKey {
		shown.ApiKeyId, shown.Role = &s.KeyID, byModel+","+byKey
	}
	if !query.ByModel {
		shown.Name, shown.Role = strconv.Itoa(int(s.KeyID)), byKey
	}
	shown.Values = mapped(s.Points, func(p usage.OperatorPoint) gpdbapi.ModelOperatorUsageValue {
		return gpdbapi.ModelOperatorUsageValue{Point: []string{strconv.FormatInt(p.At.UnixMilli(), 10), p.Value(metric)}}
	})
	return shown
}
