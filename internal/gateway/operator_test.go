package gateway_test

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	operatorAccount = "1000000000000001"
	operatorSecret  = "sk-operator"
)

// operatorKey is an item that publishes a key of the account.
func (r *rig) operatorKey(id, account, key string) item {
	r.t.Helper()
	body, err := snapshot.Encode(snapshot.OperatorKey{ID: id, AccountID: account, Hash: snapshot.HashKey(key)})
	require.NoError(r.t, err)
	return item{kind: snapshot.KindOperatorKey, id: id, body: body}
}

// serveOpened publishes services of the account and a key that opens them.
func (r *rig) serveOpened(services ...*snapshot.ModelService) {
	r.t.Helper()
	items := []item{r.operatorKey("7", operatorAccount, operatorSecret)}
	for _, s := range services {
		if s.AccountID == "" {
			s.AccountID = operatorAccount
		}
		body, err := s.Encode()
		require.NoError(r.t, err)
		items = append(items, item{id: s.ID, body: body})
	}
	r.awaitRevision(r.publishItems(true, items...))
}

// operate is a request to the operator endpoint with its key.
func (r *rig) operate(method, path, body string) *http.Request {
	r.t.Helper()
	asked := request(r.t, method, "http://"+r.Addr()+"/operator"+path, body)
	asked.Header.Set("Authorization", "Bearer "+operatorSecret)
	return asked
}

func TestAnOperatorKeyOpensEveryServiceOfItsAccount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two, other := newEngine(t, says("one")), newEngine(t, says("two")), newEngine(t, says("other"))
	first, second, theirs := r.service(one.addr), r.service(two.addr), r.service(other.addr)
	first.ModelName, second.ModelName, theirs.ModelName, theirs.AccountID = "qwen", "llama", "secret", "2000000000000002"
	r.serveOpened(&first, &second, &theirs)
	for named, want := range map[string]string{"qwen": "one", first.ID: "one", "llama": "two", second.ID: "two"} {
		got := do(t, r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"`+named+`"}`))
		require.Equal(t, []any{200, want}, []any{got.status, got.body}, named)
	}
	for named, c := range map[string]struct {
		body, code string
		status     int
	}{
		"another account's model":   {`{"model":"secret"}`, "model_not_found", 404},
		"another account's service": {`{"model":"` + theirs.ID + `"}`, "model_not_found", 404},
		"no such model":             {`{"model":"nope"}`, "model_not_found", 404},
		"no model":                  {`{"messages":[]}`, "model_required", 400},
		"nothing":                   {``, "model_required", 400},
		"no JSON":                   {`model=qwen`, "invalid_body", 400},
		"two models":                {`{"model":"qwen","model":"llama"}`, "invalid_body", 400},
		"a model in other letters":  {`{"Model":"qwen"}`, "invalid_body", 400},
	} {
		got := do(t, r.operate(http.MethodPost, "/v1/chat/completions", c.body))
		require.Equal(t, []any{c.status, c.code}, []any{got.status, got.code(t)}, named)
	}
	require.Zero(t, other.calls.Load())
	for name, key := range map[string]string{"no key": "", "a service's key": callerKey, "another key": "sk-wrong"} {
		asked := r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"qwen"}`)
		asked.Header.Set("Authorization", "Bearer "+key)
		got := do(t, asked)
		require.Equal(t, []any{401, "invalid_api_key"}, []any{got.status, got.code(t)}, name)
	}
	require.Equal(t, 401, do(t, withKey(request(t, http.MethodPost, r.url(first, "/v1/chat/completions"), `{}`), operatorSecret)).status,
		"the key is for the operator endpoint")
	for _, path := range []string{"", "/", "/v2/chat", "/v1", "/services/" + first.ID + "/v1/chat/completions"} {
		require.Equal(t, 404, do(t, r.operate(http.MethodPost, path, `{"model":"qwen"}`)).status, path)
	}
	require.Equal(t, 400, do(t, r.operate(http.MethodPost, "/v1/%2e%2e/x", `{"model":"qwen"}`)).status)
	public := withKey(request(t, http.MethodPost, "http://"+r.PublicAddr()+"/operator/v1/chat/completions", `{"model":"qwen"}`), operatorSecret)
	require.Equal(t, 404, do(t, public).status, "the public listener has no operator endpoint")

	r.awaitRevision(r.publishItems(true, item{kind: snapshot.KindOperatorKey, id: "7"}))
	require.Equal(t, 401, do(t, r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"qwen"}`)).status, "deleted")
}

func withKey(r *http.Request, key string) *http.Request {
	r.Header.Set("Authorization", "Bearer "+key)
	return r
}

func TestTheArrayOfEachServiceDecidesForOperatorsToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	here, there := newEngine(t, says("here")), newEngine(t, says("there"))
	open, closed := r.service(here.addr), r.service(there.addr)
	closed.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	only := r.service(there.addr)
	only.ModelName, only.Allow = "only", closed.Allow
	r.serveOpened(&open, &closed, &only)
	for range 20 {
		got := do(t, r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"demo"}`))
		require.Equal(t, "here", got.body, "of two services of one model only one may be called from here")
	}
	asked := r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"only"}`)
	asked.Header.Set("X-Forwarded-For", "127.0.0.2")
	asked.Header.Set("X-Real-Ip", "127.0.0.2")
	asked.Header.Set("Forwarded", "for=127.0.0.2")
	got := do(t, asked)
	require.Equal(t, []any{403, "ip_not_allowed"}, []any{got.status, got.code(t)})
	got = doWith(t, fromAddr("127.0.0.2"), r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"only"}`))
	require.Equal(t, "there", got.body)

	listed := do(t, r.operate(http.MethodGet, "/v1/models", ""))
	require.Equal(t, 200, listed.status)
	require.Contains(t, listed.body, `"demo"`)
	require.Contains(t, listed.body, open.ID)
	require.NotContains(t, listed.body, closed.ID)
	require.NotContains(t, listed.body, `"only"`)
	require.JSONEq(t, `{"id":"demo","object":"model","created":0,"owned_by":"engineshed"}`, do(t, r.operate(http.MethodGet, "/v1/models/demo", "")).body)
	require.Equal(t, 404, do(t, r.operate(http.MethodGet, "/v1/models/only", "")).status)
}

func TestOfSeveralServicesTheLeastBusyIsAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	began, end := make(chan string, 2), make(chan struct{})
	slow := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, in *http.Request) {
			_, _ = io.Copy(io.Discard, in.Body)
			began <- name
			<-end
			_, _ = io.WriteString(w, name)
		}
	}
	one, two, none := newEngine(t, slow("one")), newEngine(t, slow("two")), r.service()
	first, second := r.service(one.addr), r.service(two.addr)
	r.serveOpened(&first, &second, &none)
	answers := make(chan int, 2)
	for range 2 {
		go func() {
			answers <- do(t, r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"demo"}`)).status
		}()
		name := <-began
		if name == "one" {
			require.EqualValues(t, 1, one.calls.Load(), "the second request goes to the other")
		} else {
			require.EqualValues(t, 1, two.calls.Load(), "the second request goes to the other")
		}
	}
	close(end)
	require.Equal(t, []int{200, 200}, []int{<-answers, <-answers})
	got := do(t, r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"`+none.ID+`"}`))
	require.Equal(t, []any{503, "no_healthy_replica"}, []any{got.status, got.code(t)})
}

func TestWhatAnOperatorUsesIsRecordedWithItsKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bodies := make(chan string, 1)
	e := newEngine(t, streams(t, bodies))
	s := r.service(e.addr)
	r.serveOpened(&s)
	got := do(t, r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"`+s.ID+`","stream":true}`))
	require.Equal(t, contentEvent+doneEvent, got.body, "the usage that only the gateway asked for is not passed on")
	require.Contains(t, <-bodies, `"include_usage":true`)
	require.Equal(t, 404, do(t, r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"nope"}`)).status)
	require.Equal(t, 200, do(t, r.operate(http.MethodGet, "/v1/models", "")).status)
	require.Equal(t, 200, do(t, r.operate(http.MethodPost, "/v1/completions?x=%20y", `{"model":"demo"}`)).status)
	<-bodies

	rows := r.usage(3)
	require.Equal(t, []string{operatorAccount, s.ID, s.ID, "demo", "complete"},
		[]string{rows[0].AccountID, rows[0].ServiceID, rows[0].ModelAsked, rows[0].Model, rows[0].EndState})
	require.EqualValues(t, 12, *rows[0].TotalTokens)
	require.Equal(t, []string{operatorAccount, "", "nope", "refused"}, []string{rows[1].AccountID, rows[1].ServiceID, rows[1].Model, rows[1].EndState})
	var keys int
	require.NoError(t, r.owner.QueryRow(t.Context(), `SELECT count(*) FROM usage_record WHERE operator_key_id = 7`).Scan(&keys))
	require.Equal(t, 3, keys)
}

func TestAFormNamesItsModelToAnOperator(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seen := make(chan []byte, 1)
	e := newEngine(t, func(_ http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		seen <- body
	})
	s := r.service(e.addr)
	r.serveOpened(&s)
	form := strings.ReplaceAll("--b\nContent-Disposition: form-data; name=\"model\"\n\ndemo\n--b--\n", "\n", "\r\n")
	asked := r.operate(http.MethodPost, "/v1/audio/transcriptions", form)
	asked.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	require.Equal(t, 200, do(t, asked).status)
	require.True(t, bytes.Equal([]byte(form), <-seen))
}

func TestAnOperatorKeySurvivesAColdStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	e := newEngine(t, says("one"))
	s := r.service(e.addr)
	r.serveOpened(&s)
	r.halt()
	r.settings.DatabaseURL = "postgres://nobody@" + closedAddr(t) + "/none"
	r.start()
	r.awaitReady()
	require.Equal(t, "one", do(t, r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"demo"}`)).body)
	require.Equal(t, 401, do(t, withKey(r.operate(http.MethodPost, "/v1/chat/completions", `{"model":"demo"}`), "sk-wrong")).status)
}
