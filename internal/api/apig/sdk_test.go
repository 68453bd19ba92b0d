package apig_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/sdk"
	sdkapig "github.com/engineshed/engineshed/sdk/apig"
)

func TestTheSDKSpeaksToTheAPI(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	root, err := sdk.New(sdk.Config{Endpoint: s.URL, AccessKeyID: apitest.RootKey, AccessKeySecret: apitest.KeySecret})
	require.NoError(t, err)
	made, err := root.CreateHttpApi(t.Context(), sdkapig.CreateHttpApiRequest{Name: "chat", Type: "LLM"})
	require.NoError(t, err)
	require.Equal(t, sdkapig.CreatedHttpApi{HttpApiId: apiID, Name: "chat"}, *made)
	require.Equal(t, modelapi.Spec{Name: "chat", Type: "LLM"}, d.asked[0])

	shown, err := root.GetHttpApi(t.Context(), apiID)
	require.NoError(t, err)
	require.Equal(t, "Deployed", shown.Environments[0].DeployStatus)
	types, keyword, size := []string{"LLM", "Ai"}, "a b&c*~", int32(3)
	listed, err := root.ListHttpApis(t.Context(), sdkapig.ListHttpApisParams{Types: &types, Keyword: &keyword, PageSize: &size})
	require.NoError(t, err)
	require.Len(t, listed.Items, 1)
	require.Equal(t, []any{types, keyword}, []any{d.asked[0].(modelapi.Filter).Types, d.asked[0].(modelapi.Filter).Keyword})
	require.NoError(t, root.UpdateHttpApi(t.Context(), apiID, sdkapig.UpdateHttpApiRequest{BasePath: "/"}))
	deployed, err := root.DeployHttpApi(t.Context(), apiID)
	require.NoError(t, err)
	require.Equal(t, int64(2), deployed.Revision)
	require.NoError(t, root.UndeployHttpApi(t.Context(), apiID))
	require.NoError(t, root.DeleteHttpApi(t.Context(), apiID))

	services, err := root.CreateService(t.Context(), "t", sdkapig.CreateServiceRequest{
		GatewayId: gatewayID, SourceType: "VIP", ServiceConfigs: []sdkapig.ServiceConfig{{Name: "v", Addresses: &[]string{"192.0.2.1:80"}}},
	})
	require.NoError(t, err)
	require.Equal(t, []string{serviceID}, services.ServiceIds)
	require.Equal(t, "t", d.key.Token)
	require.Equal(t, []string{"192.0.2.1:80"}, d.asked[0].(aiservice.CreateSpec).Services[0].Addresses)

	consumer, err := root.GetConsumer(t.Context(), consumerID)
	require.NoError(t, err)
	require.Equal(t, consumerKey, *(*consumer.ApiKeyIdentityConfig.Credentials)[0].Apikey)

	require.NoError(t, root.TagResources(t.Context(), sdkapig.TagResourcesRequest{
		ResourceType: "Gateway", ResourceId: []string{gatewayID}, Tag: []sdkapig.ResourceTag{{Key: "team"}},
	}))
	kind, ids, key := "Gateway", []string{gatewayID}, []string{"a,b"}
	tagged, err := root.ListTagResources(t.Context(), sdkapig.ListTagResourcesParams{
		ResourceType: &kind, ResourceId: &ids, Tag: &[]sdkapig.TagFilterItem{{Key: "k&"}},
	})
	require.NoError(t, err)
	require.Equal(t, []string{"more", "search"}, []string{tagged.NextToken, tagged.TagResources[0].TagValue})
	require.Equal(t, []any{resource.Filter{Kind: kind, IDs: ids, Tags: []resource.Tag{{Key: "k&"}}}}, d.asked)
	require.NoError(t, root.UntagResources(t.Context(), sdkapig.UntagResourcesParams{ResourceType: &kind, ResourceId: &ids, TagKey: &key}))
	require.Equal(t, []any{kind, ids, key, false}, d.asked)
	require.NoError(t, root.ChangeResourceGroup(t.Context(), sdkapig.ChangeResourceGroupParams{
		ResourceType: kind, ResourceId: gatewayID, ResourceGroupId: "rg-default",
	}))

	_, err = root.GetHttpApi(t.Context(), "api-of/nobody")
	var refused *sdk.Error
	require.True(t, errors.As(err, &refused), "%v", err)
	require.Equal(t, "InvalidPath", refused.Code)
	err = root.DeleteHttpApi(t.Context(), "api-unknown")
	require.True(t, errors.As(err, &refused), "%v", err)
	require.Equal(t, []any{404, "DatabaseError.RecordNotFound"}, []any{refused.StatusCode, refused.Code})
	require.NotEmpty(t, refused.RequestID)
}
