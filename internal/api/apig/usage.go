package apig

import (
	"context"
	"slices"
	"time"

	apigapi "github.com/engineshed/engineshed/internal/oapi/apig"
	"github.com/engineshed/engineshed/internal/usage"
)

// ListUsage sums up what was used.
func (s *Server) ListUsage(ctx context.Context, req apigapi.ListUsageRequestObject) (apigapi.ListUsageResponseObject, error) {
	sums, total, of, err := s.Usage.List(ctx, accountOf(ctx), toUsageQuery(req.Params))
	if err != nil {
		return nil, err
	}
	return apigapi.ListUsage200JSONResponse(success(ctx, fromUsage(sums, total, of))), nil
}

func toUsageQuery(params apigapi.ListUsageParams) usage.Query {
	return usage.Query{
		From: toTime(params.StartTime), To: toTime(params.EndTime),
		API: orZero(params.HttpApi), Service: orZero(params.Service), Model: orZero(params.Model), Consumer: orZero(params.Consumer),
		By: orZero(params.GroupBy), Page: toPage(params.PageNumber, params.PageSize),
	}
}

func toTime(milliseconds *int64) time.Time {
	if milliseconds == nil {
		return time.Time{}
	}
	return time.UnixMilli(*milliseconds)
}

func fromUsage(sums []usage.Sum, total int, of usage.Query) apigapi.UsagePage {
	return apigapi.UsagePage{
		StartTime: fromTime(of.From), EndTime: fromTime(of.To), TotalSize: int32(total), //nolint:gosec // of groups
		PageNumber: int32(of.Page.Number), PageSize: int32(of.Page.Size), //nolint:gosec // checked by the document
		Items: mapped(sums, func(s usage.Sum) apigapi.UsageSum { return fromUsageSum(s, of.By) }),
	}
}

// fromUsageSum shows the members that sums were made for, empty ones too.
func fromUsageSum(s usage.Sum, by []string) apigapi.UsageSum {
	sum := apigapi.UsageSum{
		RequestCount: s.Requests, StreamCount: s.Streams, UnknownCount: s.Unknown,
		InputTokens: s.Input, OutputTokens: s.Output, TotalTokens: s.Total, CachedTokens: s.Cached, ReasoningTokens: s.Reasoning,
		AverageDuration: s.Duration, AverageFirstContent: s.FirstContent,
	}
	for _, member := range []struct {
		by    string
		to    **string
		value string
	}{
		{"api", &sum.HttpApiId, s.APIID},
		{"api", &sum.HttpApiName, s.APIName},
		{"service", &sum.ServiceId, s.ServiceID},
		{"service", &sum.ServiceName, s.ServiceName},
		{"model", &sum.Model, s.Model},
		{"consumer", &sum.ConsumerId, s.ConsumerID},
		{"consumer", &sum.ConsumerName, s.ConsumerName},
		{"endState", &sum.EndState, s.EndState},
		{"day", &sum.Day, s.Day},
	} {
		if slices.Contains(by, member.by) {
			*member.to = &member.value
		}
	}
	return sum
}
