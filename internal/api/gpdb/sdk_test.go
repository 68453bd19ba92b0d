package gpdb_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
	"github.com/engineshed/engineshed/sdk"
	sdkgpdb "github.com/engineshed/engineshed/sdk/gpdb"
)

func TestTheSDKSpeaksToTheAPI(t *testing.T) {
	t.Parallel()
	s, d := serve(t)
	s.Users(map[string]string{"reader": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"gpdb:List*","Resource":"*"}]}`})
	root, err := sdk.New(sdk.Config{Endpoint: s.URL, AccessKeyID: apitest.RootKey, AccessKeySecret: apitest.KeySecret})
	require.NoError(t, err)
	token, replicas := "t", int32(1)
	made, err := root.CreateModelService(t.Context(), sdkgpdb.CreateModelServiceRequest{
		DBInstanceId: instanceA, ModelName: "m", AiNodes: []string{"ai-1"}, Replicas: &replicas, ClientToken: &token,
		ModelParams: &map[string]any{"max-model-len": 4096},
	})
	require.NoError(t, err)
	require.Equal(t, serviceID, made.ModelServiceId)
	require.Equal(t, "t", d.key.Token)

	free, err := root.FreeAINodes(t.Context(), instanceA, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"ai-2"}, free)
	_, err = root.FreeAINodes(t.Context(), instanceA, 2)
	require.ErrorContains(t, err, "has 1")

	reader, err := sdk.New(sdk.Config{Endpoint: s.URL, AccessKeyID: apitest.KeyOf("reader"), AccessKeySecret: apitest.KeySecret})
	require.NoError(t, err)
	_, err = reader.DeleteModelService(t.Context(), sdkgpdb.DeleteModelServiceRequest{DBInstanceId: instanceA, ModelServiceId: serviceID})
	var refused *sdk.Error
	require.True(t, errors.As(err, &refused), "%v", err)
	require.Equal(t, 403, refused.StatusCode)
	require.Equal(t, "Forbidden.RAM", refused.Code)
	require.NotEmpty(t, refused.RequestID)
	require.Equal(t, "gpdb:DeleteModelService", *refused.AccessDeniedDetail.AuthAction)
}
