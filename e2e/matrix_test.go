package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

var allMethods = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

// productRoutes are how many default routes each scenario and protocol has: 49 of the product, and /v1/responses.
var productRoutes = []struct {
	category, protocol string
	routes             int
}{
	{"Text", "OpenAI/v1", 3},
	{"Text", "Anthropic", 1},
	{"Image", "DashScope", 6},
	{"Image", "OpenAI/v1", 3},
	{"Image", "ComfyUI", 25},
	{"Video", "DashScope", 3},
	{"Audio", "DashScope", 1},
	{"Audio", "OpenAI/v1", 1},
	{"Embedding", "OpenAI/v1", 1},
	{"Rerank", "DashScope", 1},
	{"Rerank", "vLLM", 1},
	{"Others", "OpenAI/v1", 4},
}

// pathEcho answers with the method and the path it was asked for, and a WebSocket with whatever it hears.
func pathEcho(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, r.Method, " ", r.RequestURI)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n%s\n", r.RequestURI)
		_, _ = io.Copy(conn, buffered)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// newModelAPI makes an API over the service at the base path, which is not forwarded, and publishes it.
func newModelAPI(t *testing.T, c *darabonba, name, category, protocol, base, gateway, environment, service string) (id string) {
	t.Helper()
	made, err := c.roa("CreateHttpApi", "POST", "/v1/http-apis", map[string]any{
		"name": name, "type": "LLM", "modelCategory": category, "aiProtocols": []string{protocol},
		"basePath": base, "removeBasePathOnForward": true,
		"deployConfigs": []any{map[string]any{
			"gatewayId": gateway, "gatewayType": "AI", "environmentId": environment, "autoDeploy": true, "backendScene": "SingleService",
			"serviceConfigs": []any{map[string]any{"serviceId": service}},
		}},
	})
	return data(t, made, err).text("httpApiId")
}

// newVIP makes a service at the address.
func newVIP(t *testing.T, c *darabonba, gateway, addr string) (id string) {
	t.Helper()
	made, err := c.roa("CreateService", "POST", "/v1/services", map[string]any{
		"gatewayId": gateway, "sourceType": "VIP",
		"serviceConfigs": []any{map[string]any{"name": "upstream", "addresses": []string{addr}}},
	})
	return data(t, made, err)["serviceIds"].([]any)[0].(string)
}

// TestEveryDefaultRoute asks every API of default routes for every path of its routes, and for paths that are nearly
// one, with every method. An expression for each route says what is to be expected.
func TestEveryDefaultRoute(t *testing.T) {
	t.Parallel()
	upstream := pathEcho(t)
	s := newShed(t, pgtest.New(t))
	s.upstreams = []string{upstream.Listener.Addr().String()}
	control := s.controlPlane("both")
	s.startGateway()
	c := newDarabonba(t, control.addr, rootKey).(*darabonba)
	gateway, environment := seedGateway(t, c)
	service := newVIP(t, c, gateway, upstream.Listener.Addr().String())

	var groups []matrixGroup
	routes := 0
	for _, p := range productRoutes {
		name := strings.NewReplacer("/", "-").Replace(p.category + "-" + p.protocol)
		g := matrixGroup{base: "/" + name, protocol: p.protocol, host: environment + ".engineshed.localhost", gateway: s.gateway}
		id := newModelAPI(t, c, name, p.category, p.protocol, g.base, gateway, environment, service)
		g.routes = defaultRoutes(t, c, id)
		require.Len(t, g.routes, p.routes, name)
		groups = append(groups, g)
		routes += p.routes
	}
	require.Equal(t, 50, routes)
	asked, webSockets := map[int]int{}, 0
	for _, g := range groups {
		eventually(t, 10*time.Second, g.base+" is served", func() bool {
			return g.ask(t, g.routes[0].methods[0], instance(g.routes[0].path)).status == 200
		})
		for _, path := range g.paths() {
			for _, method := range allMethods {
				asked[g.check(t, method, path)]++
			}
		}
		for _, r := range g.routes {
			if r.path == "/ws" || strings.HasPrefix(r.path, "/api-ws/") {
				g.checkWebSocket(t, r.path)
				webSockets++
			}
		}
	}
	require.Equal(t, 2, webSockets)
	t.Logf("%d routes of %d scenarios and protocols; requests by status: %v", routes, len(groups), asked)
	require.Greater(t, asked[200], 100)
	require.Greater(t, asked[404], 500)
	require.Greater(t, asked[405], 500)
}

type matrixGroup struct {
	base, protocol, host, gateway string
	routes                        []matrixRoute
}

type matrixRoute struct {
	path     string
	pathType string
	methods  []string
}

// defaultRoutes are the routes that came with the API.
func defaultRoutes(t *testing.T, c *darabonba, api string) (routes []matrixRoute) {
	t.Helper()
	listed, err := c.roa("ListHttpApiRoutes", "GET", "/v1/http-apis/"+api+"/routes?pageSize=100", nil)
	for _, item := range data(t, listed, err)["items"].([]any) {
		item := item.(map[string]any)
		require.Equal(t, "true", item["builtin"])
		match := item["match"].(map[string]any)
		path := match["path"].(map[string]any)
		r := matrixRoute{path: path["value"].(string), pathType: path["type"].(string)}
		for _, method := range match["methods"].([]any) {
			r.methods = append(r.methods, method.(string))
		}
		routes = append(routes, r)
	}
	return routes
}

// instance fills in the parameters of a path; one of them holds an escaped slash.
func instance(path string) string {
	return regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(path, "my%2Ffile.json")
}

// paths are those of the routes and others nearby.
func (g matrixGroup) paths() (all []string) {
	for _, r := range g.routes {
		path := instance(r.path)
		parent := path[:strings.LastIndexByte(path, '/')]
		all = append(all, path, path+"/", path+"x", path+"/x", path+"/x/y", path+"%2Fx", "/x"+path, strings.ToUpper(path), path[:len(path)-1], parent)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// methods are what the routes take at the path, written down without the gateway's own code.
func (g matrixGroup) methods(path string) (methods []string) {
	for _, r := range g.routes {
		expression := regexp.QuoteMeta(r.path) + "/?"
		switch {
		case r.pathType == "Prefix":
			expression = regexp.QuoteMeta(r.path) + "(/.*)?"
		case strings.Contains(r.path, "{"):
			expression = regexp.MustCompile(`\\\{[^}]+\\\}`).ReplaceAllString(expression, `[^/]+`)
		}
		if regexp.MustCompile("^" + expression + "$").MatchString(path) {
			methods = append(methods, r.methods...)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (g matrixGroup) ask(t *testing.T, method, path string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.gateway+g.base+path, strings.NewReader(`{"model":"m"}`))
	require.NoError(t, err)
	r.Host = g.host
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return reply{response.StatusCode, response.Header, string(body)}
}

func (g matrixGroup) check(t *testing.T, method, path string) (status int) {
	t.Helper()
	what := method + " " + g.base + path
	methods, got := g.methods(path), g.ask(t, method, path)
	switch {
	case len(methods) == 0:
		require.Equal(t, 404, got.status, what)
	case slices.Contains(methods, method):
		require.Equal(t, 200, got.status, "%s: %s", what, got.body)
		require.Equal(t, method+" "+path, got.body, what)
		return got.status
	default:
		require.Equal(t, 405, got.status, what)
		require.Equal(t, strings.Join(methods, ", "), got.header.Get("Allow"), what)
	}
	if method != http.MethodHead {
		require.NotEmpty(t, errorCode(t, g.protocol, got), what)
	}
	return got.status
}

// errorCode is how an error of the protocol says what is wrong.
func errorCode(t *testing.T, protocol string, got reply) string {
	t.Helper()
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	decode := func(into any) {
		in := json.NewDecoder(strings.NewReader(got.body))
		in.DisallowUnknownFields()
		require.NoError(t, in.Decode(into), got.body)
	}
	switch protocol {
	case "Anthropic":
		var shape struct {
			Type  string
			Error struct{ Type, Message string }
			ID    string `json:"request_id"`
		}
		decode(&shape)
		require.Equal(t, "error", shape.Type)
		require.NotEmpty(t, shape.Error.Message)
		return shape.Error.Type
	case "DashScope":
		var shape struct {
			Code, Message string
			ID            string `json:"request_id"`
		}
		decode(&shape)
		require.NotEmpty(t, shape.Message)
		require.Equal(t, got.header.Get("X-Request-Id"), shape.ID)
		return shape.Code
	}
	var shape struct {
		Error struct {
			Message, Type, Code string
			Param               *string
		}
	}
	decode(&shape)
	require.NotEmpty(t, shape.Error.Message)
	return shape.Error.Code
}

func (g matrixGroup) checkWebSocket(t *testing.T, path string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.gateway, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = fmt.Fprintf(conn, "GET %s%s?clientId=1 HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", g.base, path, g.host)
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil) //nolint:bodyclose // the connection is what is closed
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, path+"?clientId=1\n", line)
	for _, frame := range []string{"\x81\x82\x01\x02\x03\x04\x69\x6b", "\x82\x80\x00\x00\x00\x00"} {
		_, err = io.WriteString(conn, frame)
		require.NoError(t, err)
		back := make([]byte, len(frame))
		_, err = io.ReadFull(in, back)
		require.NoError(t, err)
		require.Equal(t, frame, string(back))
	}
}
