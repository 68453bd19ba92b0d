package audit

import (
	"strconv"
	"time"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/fault"
	auditapi "github.com/engineshed/engineshed/internal/oapi/audit"
)

// pageSize is how many events a page holds unless said otherwise.
const pageSize = 50

func toQuery(body *auditapi.ListAuditEventsRequest) (q audit.Query, err error) {
	if q.From, err = toTime("StartTime", body.StartTime); err != nil {
		return q, err
	}
	if q.To, err = toTime("EndTime", body.EndTime); err != nil {
		return q, err
	}
	q.Principal, q.Action, q.Resource = orZero(body.Principal), orZero(body.Action), orZero(body.Resource)
	q.Outcome, q.After = audit.Outcome(orZero(body.Outcome)), orZero(body.NextToken)
	if q.Size = int(orZero(body.MaxResults)); q.Size == 0 {
		q.Size = pageSize
	}
	return q, nil
}

func toTime(name string, text *string) (time.Time, error) {
	if text == nil {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		return time.Time{}, fault.InvalidParameter(name, "it is a time such as 2026-03-01T09:31:00Z.")
	}
	return at, nil
}

func orZero[T any](value *T) (zero T) {
	if value == nil {
		return zero
	}
	return *value
}

func fromRecords(records []audit.Record) []auditapi.AuditEvent {
	events := make([]auditapi.AuditEvent, len(records))
	for n, r := range records {
		events[n] = auditapi.AuditEvent{
			EventId: strconv.FormatInt(r.ID, 10), Time: r.At.UTC().Format("2006-01-02T15:04:05.000000Z"), EventRequestId: r.RequestID,
			Principal: r.Principal, AccessKeyId: r.AccessKeyID, SourceIp: r.SourceIP, Action: r.Action, Resource: r.Resource,
			ResourceId: r.ResourceID, Outcome: auditapi.Outcome(r.Outcome), Code: r.Code, Detail: r.Detail,
		}
	}
	return events
}
