package api

import (
	"regexp"
	"strings"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/ids"
)

// arnParts are the parameters that may become part of an ARN, with what their values must be like.
var arnParts = map[string]func(string) bool{
	"DBInstanceId":    id(ids.DBInstance),
	"httpApiId":       id(ids.HTTPAPI),
	"gatewayId":       id(ids.Gateway),
	"environmentId":   id(ids.Environment),
	"domainId":        id(ids.Domain),
	"serviceId":       id(ids.AIService),
	"consumerId":      id(ids.Consumer),
	"consumerGroupId": id(ids.ConsumerGroup),
	"UserName":        regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString,
	"GroupName":       regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`).MatchString,
	"RoleName":        regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`).MatchString,
	policyName:        regexp.MustCompile(`^[A-Za-z0-9-]{1,128}$`).MatchString,
	"ResourceGroupId": regexp.MustCompile(`^(rg-default|rg-[0-9a-v]{20}|[0-9]{16})$`).MatchString, // or the account
	roleARN:           regexp.MustCompile(`^acs:ram::[0-9]{16}:role/[A-Za-z0-9.-]{1,64}$`).MatchString,
}

func id(prefix string) func(string) bool {
	return func(value string) bool { return ids.Valid(prefix, value) }
}

const (
	policyName = "PolicyName" // of a system policy, when PolicyType says so
	roleARN    = "RoleArn"    // an ARN itself
)

// noID stands in an ARN for an id that no resource can have. Policies for every resource of the kind still match, so
// that whoever may call learns that there is no such resource.
const noID = "-"

// resources returns the ARN of what params ask for, and its other spelling: policies are written with and without the
// region, and both are meant. The first is the one the operation is documented with.
func (t arnTemplate) resources(region string, caller access.Caller, params map[string]any) []string {
	if t == "*" {
		return []string{"*"}
	}
	arn, account := string(t), caller.AccountID
	if field, ok := t.field(); ok {
		value, _ := params[field].(string)
		switch {
		case field == "UserName" && value == "":
			value = caller.UserName // operations that may be called without are then about the caller
		case field == policyName && params["PolicyType"] == "System":
			account = "system"
		}
		valid := arnParts[field](value)
		if field == roleARN && !valid {
			field, arn = "RoleName", "acs:ram::{account}:role/{RoleName}"
		}
		if !valid {
			value = noID
		}
		arn = strings.ReplaceAll(arn, "{"+field+"}", value)
	}
	arn = strings.ReplaceAll(arn, "{account}", account)
	product, rest, _ := strings.Cut(strings.TrimPrefix(arn, "acs:"), ":")
	declared, relative, _ := strings.Cut(rest, ":")
	with, without := "acs:"+product+":"+region+":"+relative, "acs:"+product+"::"+relative
	if declared == "" {
		return []string{without, with}
	}
	return []string{with, without}
}
