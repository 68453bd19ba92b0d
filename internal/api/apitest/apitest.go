// Package apitest serves products through the whole API, with a real database and real identities, and signs calls to
// them.
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/sdk"
)

// Region is the region of every Server.
const Region = "cn-hangzhou"

// The accounts and the keys of their roots.
const (
	Account      = "1000000000000001"
	RootKey      = "ESAKroot000000000001"
	Neighbour    = "1000000000000002"
	NeighbourKey = "ESAKneighbour0000001"
)

// KeySecret is the secret of every key.
const KeySecret = "a-secret-of-30-characters-1234"

// Server is the API with two accounts.
type Server struct {
	t       testing.TB
	URL     string
	DB      *pgtest.DB
	Log     *Log
	store   *iam.Store
	version string // of the product that Calls go to
	signers map[string]sdk.Signer
}

// New serves products. Calls go to the first one.
func New(t testing.TB, products ...api.Product) *Server {
	t.Helper()
	return With(t, Config{}, products...)
}

// On is New for products that have a database already.
func On(t testing.TB, db *pgtest.DB, products ...api.Product) *Server {
	t.Helper()
	return With(t, Config{DB: db}, products...)
}

// Within is New with a bound on the time of one call.
func Within(t testing.TB, timeout time.Duration, products ...api.Product) *Server {
	t.Helper()
	return With(t, Config{Timeout: timeout}, products...)
}

// Config is what a Server may differ in.
type Config struct {
	DB             *pgtest.DB // nil: a new one
	Timeout        time.Duration
	Facts          api.Facts
	TrustedProxies []netip.Prefix
}

// With is New with a difference.
func With(t testing.TB, config Config, products ...api.Product) *Server {
	t.Helper()
	return assemble(t, config, func(Parts) []api.Product { return products })
}

// Parts are what products that manage identities share with the steps before them.
type Parts struct {
	DB         *pgtest.DB
	Box        *secret.Box
	Authorizer *access.Authorizer
}

// Identities is New for products that manage identities.
func Identities(t testing.TB, products func(Parts) []api.Product) *Server {
	t.Helper()
	return assemble(t, Config{}, products)
}

func assemble(t testing.TB, config Config, of func(Parts) []api.Product) *Server {
	t.Helper()
	db := config.DB
	if db == nil {
		db = pgtest.New(t)
	}
	box, err := secret.NewBox()
	require.NoError(t, err)
	s := &Server{t: t, DB: db, Log: &Log{}, store: iam.New(db.Control, box), signers: map[string]sdk.Signer{}}
	log := slog.New(slog.NewJSONHandler(s.Log, nil))
	authorizer := access.NewAuthorizer(s.store, box, log)
	products := of(Parts{db, box, authorizer})
	s.version = products[0].Version
	handler, err := api.New(api.Config{
		Region:         Region,
		Products:       products,
		Verifier:       signature.New(s.store, s.store, time.Now),
		Authorizer:     authorizer,
		Facts:          config.Facts,
		Audit:          db.Control,
		Log:            log,
		Timeout:        config.Timeout,
		TrustedProxies: config.TrustedProxies,
	})
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.URL = server.URL
	s.Users(nil)
	return s
}

// Users makes the users of Account exactly these, by name, each with one custom policy document and the key KeyOf.
func (s *Server) Users(documents map[string]string) { s.UsersAnd(documents, "", nil) }

// UsersAnd is Users with more in the policy files: lines of Account, and the documents that they name, by file.
func (s *Server) UsersAnd(documents map[string]string, more string, named map[string]string) {
	s.t.Helper()
	files := fstest.MapFS{}
	write := func(name, content string) { files[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o600} }
	for name, content := range named {
		write(name, content)
	}
	var users, policies strings.Builder
	for name, document := range documents {
		write(name+".json", document)
		policies.WriteString("      - {name: " + name + ", document: " + name + ".json}\n")
		users.WriteString("      - {name: " + name + ", accessKeys: [{id: " + KeyOf(name) + ", secret: " + KeySecret +
			"}], policies: [{type: Custom, name: " + name + "}]}\n")
	}
	root := func(id, key string) string {
		return "  - id: \"" + id + "\"\n    name: test\n    accessKeys: [{id: " + key + ", secret: " + KeySecret + "}]\n"
	}
	write("accounts.yaml", "accounts:\n"+root(Neighbour, NeighbourKey)+root(Account, RootKey)+
		"    policies:\n"+policies.String()+"    users:\n"+users.String()+more)
	loaded, err := iam.LoadDir(files, func(string) string { return "" })
	require.NoError(s.t, err)
	_, err = s.store.Apply(context.Background(), loaded)
	require.NoError(s.t, err)
}

// KeyOf is the access key id of a user.
func KeyOf(user string) string { return "ESAKuser000000" + user }

// Of returns the server for calls to the product of another version.
func (s *Server) Of(version string) *Server {
	other := *s
	other.version = version
	return &other
}

// Knows makes the server's calls with the key id use this signer. The secret of every other key is KeySecret.
func (s *Server) Knows(signer sdk.Signer) { s.signers[signer.AccessKeyID] = signer }

// Answer is a response.
type Answer struct {
	Status int
	Header http.Header
	Code   string // of an error
	Body   map[string]any
	Events []Event // of an answer that is a stream
}

// Event is one server-sent event.
type Event struct {
	Name string
	Data map[string]any
}

// JSON calls POST /action with a JSON body; a string is sent as it stands.
func (s *Server) JSON(keyID, action string, body any) Answer {
	s.t.Helper()
	text, ok := body.(string)
	if !ok {
		encoded, err := json.Marshal(body)
		require.NoError(s.t, err)
		text = string(encoded)
	}
	r := s.Request(http.MethodPost, "/"+action, strings.NewReader(text))
	r.Header.Set("Content-Type", "application/json")
	return s.Signed(keyID, action, r)
}

// RPC calls POST /?params, signed as the official SDKs do.
func (s *Server) RPC(keyID, action string, params url.Values) Answer {
	s.t.Helper()
	return s.Signed(keyID, action, s.Request(http.MethodPost, "/?"+params.Encode(), nil))
}

// Request makes an unsigned request.
func (s *Server) Request(method, target string, body io.Reader) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+target, body)
	require.NoError(s.t, err)
	return r
}

// Signed signs r and sends it.
func (s *Server) Signed(keyID, action string, r *http.Request) Answer {
	s.t.Helper()
	signer, known := s.signers[keyID]
	if !known {
		signer = sdk.Signer{AccessKeyID: keyID, AccessKeySecret: KeySecret}
	}
	require.NoError(s.t, signer.Sign(r, action, s.version))
	return s.Send(r)
}

// Send sends r as it is.
func (s *Server) Send(r *http.Request) Answer {
	s.t.Helper()
	response, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	a := Answer{Status: response.StatusCode, Header: response.Header}
	if response.Header.Get("Content-Type") == "text/event-stream" {
		a.Events = s.events(string(body))
		return a
	}
	require.NoError(s.t, json.NewDecoder(bytes.NewReader(body)).Decode(&a.Body), "every answer is JSON: %s", body)
	a.Code, _ = a.Body["Code"].(string)
	return a
}

// events are named, with an object each.
func (s *Server) events(stream string) (events []Event) {
	s.t.Helper()
	for block := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		name, data, found := strings.Cut(strings.TrimPrefix(block, "event: "), "\ndata: ")
		require.True(s.t, found, block)
		event := Event{Name: name}
		require.NoError(s.t, json.Unmarshal([]byte(data), &event.Data))
		events = append(events, event)
	}
	return events
}

// Call calls an operation of a path-style product. A body of nil is none, a string is sent as it stands.
func (s *Server) Call(keyID, action, method, target string, body any) Answer {
	s.t.Helper()
	var reader io.Reader
	switch text := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(text)
	default:
		encoded, err := json.Marshal(body)
		require.NoError(s.t, err)
		reader = bytes.NewReader(encoded)
	}
	r := s.Request(method, target, reader)
	if reader != nil {
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	return s.Signed(keyID, action, r)
}
