package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestTagsTravelThroughTheOfficialCore(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	c := newDarabonba(t, s.controlPlane("api").addr, rootKey).(*darabonba)
	gateway, environment := seedGateway(t, c)
	tags := func(kind, id string) (list []any) {
		t.Helper()
		shown, err := c.roa("ListTagResources", "GET", "/v1/tags?ResourceType="+kind+`&ResourceId=["`+id+`"]&Tag=[{"Key":"team"}]`, nil)
		require.NoError(t, err)
		return shown["TagResources"].([]any)
	}
	for kind, id := range map[string]string{"Gateway": gateway, "Environment": environment} {
		_, err := c.roa("TagResources", "POST", "/v1/tags", map[string]any{
			"resourceType": kind, "resourceId": []string{id}, "tag": []any{map[string]any{"key": "team", "value": "search, ads"}},
		})
		require.NoError(t, err)
		require.Equal(t, []any{map[string]any{
			"ResourceId": id, "ResourceType": kind, "TagKey": "team", "TagValue": "search, ads",
		}}, tags(kind, id))
		_, err = c.roa("ChangeResourceGroup", "POST", "/move-resource-group?Service=APIG&ResourceGroupId=rg-default&ResourceType="+kind+"&ResourceId="+id, nil)
		require.NoError(t, err)
	}
	found, err := c.roa("ListGateways", "GET", `/v1/gateways?tag=[{"key":"team","value":"search, ads"}]`, nil)
	require.Len(t, data(t, found, err)["items"], 1)
	_, err = c.roa("UntagResources", "DELETE", "/v1/tags?ResourceType=Environment&All=true&ResourceId=[\""+environment+"\"]", nil)
	require.NoError(t, err)
	require.Empty(t, tags("Environment", environment))
	_, err = c.roa("DeleteGateway", "DELETE", "/v1/gateways/"+gateway, nil)
	require.NoError(t, err)
	require.Empty(t, tags("Gateway", gateway))
	_, err = c.roa("TagResources", "POST", "/v1/tags", map[string]any{
		"resourceType": "Gateway", "resourceId": []string{gateway}, "tag": []any{map[string]any{"key": "team"}},
	})
	refused(t, err, 404, "NotFound.GatewayNotFound")
}
