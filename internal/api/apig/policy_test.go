package apig_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
)

// only is a policy for everything, under conditions.
func only(conditions string) string {
	return fmt.Sprintf(`{"Version":"1","Statement":[{"Effect":"Allow","Action":"apig:*","Resource":"*","Condition":%s}]}`, conditions)
}

func TestPoliciesAskForTagsAndGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateway, consumer := w.replace(gatewayID), w.replace(consumerID)
	tag := func(key, kind, id, value string) apitest.Answer {
		return w.Call(key, "TagResources", "POST", "/v1/tags", object{
			"resourceType": kind, "resourceId": []any{id}, "tag": []any{object{"key": "team", "value": value}},
		})
	}
	require.Equal(t, 200, tag(apitest.RootKey, "Gateway", gateway, "search").Status)
	w.Users(map[string]string{
		"tagged":  only(`{"StringEquals":{"acs:ResourceTag/team":"search"}}`),
		"tagging": only(`{"StringEquals":{"acs:RequestTag/team":["search","ads"]}}`),
		"one":     only(`{"StringEquals":{"apig:GatewayId":"` + gateway + `"}}`),
	})
	get := func(user, path, name string) int { return w.Call(apitest.KeyOf(user), name, "GET", path, nil).Status }
	require.Equal(t, 200, get("tagged", "/v1/gateways/"+gateway, "GetGateway"))
	require.Equal(t, 403, get("tagged", "/v1/consumers/"+consumer, "GetConsumer"), "it has no such tag")
	require.Equal(t, 403, get("tagged", "/v1/gateways", "ListGateways"), "no gateway is asked for")
	require.Equal(t, 403, get("tagged", "/v1/gateways/gw-00000000000000000000", "GetGateway"), "what does not exist has no tags")
	require.Equal(t, 200, get("one", "/v1/gateways/"+gateway, "GetGateway"))
	require.Equal(t, 403, get("one", "/v1/consumers/"+consumer, "GetConsumer"))

	require.Equal(t, 200, tag(apitest.KeyOf("tagging"), "Consumer", consumer, "ads").Status)
	require.Equal(t, 403, tag(apitest.KeyOf("tagging"), "Consumer", consumer, "sales").Status)
	require.Equal(t, 403, get("tagged", "/v1/consumers/"+consumer, "GetConsumer"), "the tag has another value")
	require.Equal(t, 200, tag(apitest.RootKey, "Consumer", consumer, "search").Status)
	require.Equal(t, 200, get("tagged", "/v1/consumers/"+consumer, "GetConsumer"))
}
