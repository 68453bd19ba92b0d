package api

import (
	"strings"

	"github.com/engineshed/engineshed/internal/ids"
)

// idPrefixes are the parameters that may become part of an ARN, with the prefix their ids must have.
var idPrefixes = map[string]string{
	"DBInstanceId":    ids.DBInstance,
	"httpApiId":       ids.HTTPAPI,
	"gatewayId":       ids.Gateway,
	"environmentId":   ids.Environment,
	"domainId":        ids.Domain,
	"serviceId":       ids.AIService,
	"consumerId":      ids.Consumer,
	"consumerGroupId": ids.ConsumerGroup,
}

// noID stands in an ARN for an id that no resource can have. Policies for every resource of the kind still match, so
// that whoever may call learns that there is no such resource.
const noID = "-"

// resources returns the ARN of what params ask for, and its other spelling: policies are written with and without the
// region, and both are meant. The first is the one the operation is documented with.
func (t arnTemplate) resources(region, accountID string, params map[string]any) []string {
	if t == "*" {
		return []string{"*"}
	}
	arn := strings.ReplaceAll(string(t), "{account}", accountID)
	if field, ok := t.field(); ok {
		id, _ := params[field].(string)
		if !ids.Valid(idPrefixes[field], id) {
			id = noID
		}
		arn = strings.ReplaceAll(arn, "{"+field+"}", id)
	}
	product, rest, _ := strings.Cut(strings.TrimPrefix(arn, "acs:"), ":")
	declared, relative, _ := strings.Cut(rest, ":")
	with, without := "acs:"+product+":"+region+":"+relative, "acs:"+product+"::"+relative
	if declared == "" {
		return []string{without, with}
	}
	return []string{with, without}
}
