package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/openapi"
	"github.com/engineshed/engineshed/sdk"
)

// send performs the request and returns the status and the error code.
func send(t *testing.T, r *http.Request) (status int, code string) {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var said struct{ Code string }
	require.NoError(t, json.Unmarshal(text, &said), "%s", text)
	return response.StatusCode, said.Code
}

// operations are the names of every operation of the documents.
func operations(t *testing.T) (names []string) {
	t.Helper()
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true
	loader.ReadFromURIFunc = func(_ *openapi3.Loader, uri *url.URL) ([]byte, error) {
		return openapi.Files.ReadFile(strings.TrimPrefix(uri.Path, "/"))
	}
	document, err := loader.LoadFromURI(&url.URL{Path: "gpdb.yaml"})
	require.NoError(t, err)
	for path := range document.Paths.Map() {
		names = append(names, strings.TrimPrefix(path, "/"))
	}
	require.NotEmpty(t, names)
	return names
}

func TestAnUnsignedCallToAnyOperationIsRefused(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("api")
	for _, action := range operations(t) {
		t.Run(action, func(t *testing.T) {
			direct, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+control.addr+"/"+action, strings.NewReader(`{}`))
			require.NoError(t, err)
			direct.Header.Set("Content-Type", "application/json")
			status, code := send(t, direct)
			require.Equal(t, 400, status)
			require.Equal(t, "MissingParameter", code)

			inQuery, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
				"http://"+control.addr+"/?Version=2016-05-03&Action="+action, http.NoBody)
			require.NoError(t, err)
			status, code = send(t, inQuery)
			require.Equal(t, 400, status)
			require.Equal(t, "MissingParameter", code)
		})
	}
}

// signed is a signed ListSupportModels for the control plane at addr.
func signed(t *testing.T, addr string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/ListSupportModels", bytes.NewReader([]byte(`{}`)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	require.NoError(t, sdk.Signer{AccessKeyID: rootKey.id, AccessKeySecret: rootKey.secret}.Sign(r, "ListSupportModels", gpdbVersion))
	return r
}

func TestAReplayIsRefusedOnEveryProcess(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	first, second := s.controlPlane("api"), s.controlPlane("api")
	original := signed(t, first.addr)
	status, _ := send(t, original)
	require.Equal(t, 200, status)
	for _, addr := range []string{first.addr, second.addr} {
		replay := original.Clone(t.Context())
		replay.Body = io.NopCloser(strings.NewReader(`{}`))
		replay.URL.Host = addr // sent to the other process; the Host header stays the signed one
		replay.Host = first.addr
		status, code := send(t, replay)
		require.Equal(t, 400, status)
		require.Equal(t, "SignatureNonceUsed", code)
	}
}

func TestAChangedRequestIsRefused(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	control := s.controlPlane("api")
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
		code   string
	}{
		"another body": {func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"RegionId":"x"}`)), 16
		}, 403, "SignatureDoesNotMatch"},
		"another path":   {func(r *http.Request) { r.URL.Path = "/DescribeDBInstances" }, 403, "SignatureDoesNotMatch"},
		"another query":  {func(r *http.Request) { r.URL.RawQuery = "RegionId=x" }, 403, "SignatureDoesNotMatch"},
		"another action": {func(r *http.Request) { r.Header.Set("x-acs-action", "DescribeDBInstances") }, 403, "SignatureDoesNotMatch"},
		"another key": {func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), rootKey.id, "ESAKnobody", 1))
		}, 404, "InvalidAccessKeyId.NotFound"},
		"an unsigned header of ours": {func(r *http.Request) { r.Header.Set("x-acs-extra", "1") }, 400, "IncompleteSignature"},
		"an unsigned security token": {func(r *http.Request) { r.Header.Set("x-acs-security-token", "t") }, 400, "IncompleteSignature"},
		"an old date":                {func(r *http.Request) { r.Header.Set("x-acs-date", "2020-01-01T00:00:00Z") }, 400, "InvalidTimeStamp.Expired"},
		"no date":                    {func(r *http.Request) { r.Header.Set("x-acs-date", "yesterday") }, 400, "InvalidTimeStamp.Format"},
		"a weaker algorithm": {func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "SHA256", "SM3", 1))
		}, 400, "UnsupportedSignature"},
		"a compressed body": {func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 415, "UnsupportedContentEncoding"},
		"another method":    {func(r *http.Request) { r.Method = http.MethodPatch }, 403, "UnsupportedHTTPMethod"},
	} {
		t.Run(name, func(t *testing.T) {
			r := signed(t, control.addr)
			c.change(r)
			status, code := send(t, r)
			require.Equal(t, c.status, status)
			require.Equal(t, c.code, code)
		})
	}
}
