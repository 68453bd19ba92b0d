package api

import (
	"context"
	"strings"

	"github.com/engineshed/engineshed/internal/access"
)

// Facts knows what resources have that policies ask for.
type Facts interface {
	// Facts returns the resource group and the tags of the account's resource. One that does not exist has none.
	Facts(ctx context.Context, accountID, id string) (access.Facts, error)
}

// request is what policies are asked about the operation with params, on the resource of arn.
func (c *call) request(o *operation, arn arnTemplate, resources []string, params map[string]any) access.Request {
	r := access.Request{Action: o.action, Resources: resources, Context: c.said(o, params)}
	field, named := arn.field()
	id, _ := params[field].(string)
	switch {
	case named && id != "" && c.facts != nil:
		r.Look = func(ctx context.Context) (access.Facts, error) { return c.facts.Facts(ctx, c.caller.AccountID, id) }
	case !named && o.creates: // it will be in the group that it is created in
		r.ResourceGroupID = text(params, "ResourceGroupId")
	}
	return r
}

// said are the condition keys that the parameters are about.
func (c *call) said(o *operation, params map[string]any) map[string]string {
	said := map[string]string{}
	if gateway := text(params, "GatewayId"); gateway != "" {
		said[o.product+":GatewayId"] = gateway
	}
	tags, _ := either(params, "Tag").([]any)
	for _, element := range tags {
		if tag, ok := element.(map[string]any); ok {
			said["acs:RequestTag/"+text(tag, "Key")] = text(tag, "Value")
		}
	}
	return said
}

// text is a member that is a text, in the spelling of either kind of product; "" when there is none.
func text(object map[string]any, name string) string {
	value, _ := either(object, name).(string)
	return value
}

func either(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	return object[strings.ToLower(name[:1])+name[1:]]
}
