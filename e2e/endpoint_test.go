package e2e

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// statusFrom asks url for its models from one of this machine's own addresses.
func statusFrom(t *testing.T, from, url, key string) (status int) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/models", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	return response.StatusCode
}

func TestAnEndpointObeysItsListAndItsPublicConnection(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey)
	instance, nodes := newInstance(t, c, 2)

	open := createParams(instance, nodes[0])
	open["SecurityIPList"], open["EnablePublicConnection"] = "127.0.0.2,192.0.2.0/24", "true"
	made, err := c.call("CreateModelService", open)
	require.NoError(t, err)
	listed := waitActive(t, c, instance, made.text("ModelServiceId"), 20*time.Second)
	require.Equal(t, "127.0.0.2,192.0.2.0/24", listed.text("SecurityIpList"))
	followed := waitActive(t, c, instance, deploy(t, c, instance, nodes[1]), 20*time.Second)
	require.Equal(t, "127.0.0.1", followed.text("SecurityIpList"), "the instance's own list")
	require.Empty(t, followed.text("PublicConnectUrl"))

	private, public, key := listed.text("PrivateConnectUrl"), listed.text("PublicConnectUrl"), listed.text("ApiKey")
	require.True(t, strings.HasPrefix(public, s.public+"/"))
	eventually(t, 5*time.Second, "both services are served", func() bool {
		return statusFrom(t, "127.0.0.2", private, key) == 200 &&
			statusFrom(t, "127.0.0.1", followed.text("PrivateConnectUrl"), followed.text("ApiKey")) == 200
	})
	require.Equal(t, 200, statusFrom(t, "127.0.0.2", public, key))
	require.Equal(t, 403, statusFrom(t, "127.0.0.1", private, key))
	require.Equal(t, 403, statusFrom(t, "127.0.0.1", public, key))
	require.Equal(t, 403, statusFrom(t, "127.0.0.2", followed.text("PrivateConnectUrl"), followed.text("ApiKey")), "127.0.0.2 is external")
	onPublic := strings.Replace(followed.text("PrivateConnectUrl"), s.gateway, s.public, 1)
	require.Equal(t, 404, statusFrom(t, "127.0.0.1", onPublic, followed.text("ApiKey")))
	require.Equal(t, 401, statusFrom(t, "127.0.0.2", private, followed.text("ApiKey")), "another service's key")
}
