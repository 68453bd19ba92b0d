package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// revocable is a key that opens something at a gateway, until it is revoked.
type revocable struct {
	name   string
	url    string
	host   string // "": that of the URL
	key    string
	want   int // once it is revoked
	revoke func()
}

// ask asks for what the key opens, or would open.
func (r revocable) ask(ctx context.Context) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/chat/completions", strings.NewReader(`{"model":"Qwen3-8B","messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		return 0, err
	}
	request.Host, request.Close = r.host, true
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+r.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func (r revocable) is(t *testing.T, status int) func() bool {
	return func() bool {
		got, err := r.ask(t.Context())
		return err == nil && got == status
	}
}

// lender makes keys to be revoked.
type lender struct {
	*darabonba
	t           *testing.T
	shed        *shed
	service     map[string]string // a model service
	serviceURL  string
	api         string // that asks for keys
	environment string
	made        int
}

// newLender serves a model service, and an API at the upstream.
func newLender(t *testing.T, s *shed, addr, upstream string) *lender {
	t.Helper()
	c := newDarabonba(t, addr, rootKey).(*darabonba)
	l := &lender{darabonba: c, t: t, shed: s}
	service, described := served(t, c, 1)
	l.service, l.serviceURL = service, described.text("PrivateConnectUrl")
	gateway, environment := seedGateway(t, c)
	l.environment = environment
	l.api = newModelAPI(t, c, "chat", "Text", "OpenAI/v1", "/revoked", gateway, environment, newVIP(t, c, gateway, upstream))
	requireKeys(t, c, l.api, "/revoked")
	return l
}

func (l *lender) must(action, method, path string, body any) {
	l.t.Helper()
	_, err := l.roa(action, method, path, body)
	require.NoError(l.t, err)
}

// keys are one of each kind, all of them good.
func (l *lender) keys() []revocable {
	l.t.Helper()
	all := []revocable{
		l.consumerKey("a consumer that is deleted", 401, func(id, _ string) { l.must("DeleteConsumer", "DELETE", "/v1/consumers/"+id, nil) }),
		l.consumerKey("a consumer that is switched off", 401, func(id, _ string) {
			l.must("UpdateConsumer", "PUT", "/v1/consumers/"+id, map[string]any{"enable": false})
		}),
		l.consumerKey("a consumer's key that is replaced", 401, func(id, _ string) {
			l.must("UpdateConsumer", "PUT", "/v1/consumers/"+id, map[string]any{"apikeyIdentityConfig": map[string]any{
				"type": "Apikey", "credentials": []any{map[string]any{"generateMode": "System"}},
			}})
		}),
		l.consumerKey("a consumer whose rule is removed", 403, func(_, rule string) {
			l.must("RemoveConsumerAuthorizationRule", "DELETE", "/v1/authorization-rules/"+rule, nil)
		}),
		l.operatorKey(), l.serviceKey(),
	}
	for _, r := range all {
		eventually(l.t, 10*time.Second, r.name+" is served", r.is(l.t, 200))
	}
	return all
}

func (l *lender) consumerKey(name string, want int, revoke func(id, rule string)) revocable {
	l.t.Helper()
	l.made++
	id, key := newConsumer(l.t, l.darabonba, fmt.Sprint("consumer-", l.made))
	rule := allow(l.t, l.darabonba, id, l.api, l.environment)
	return revocable{name, l.shed.gateway + "/revoked/v1", l.environment + ".engineshed.localhost", key, want, func() { revoke(id, rule) }}
}

func (l *lender) operatorKey() revocable {
	l.t.Helper()
	made, err := l.call("CreateModelOperatorApiKey", map[string]string{"Description": "to be revoked"})
	require.NoError(l.t, err)
	id := map[string]string{"ApiKeyId": fmt.Sprint(made["ApiKeyId"])}
	shown, err := l.call("DescribeModelOperatorApiKey", id)
	require.NoError(l.t, err)
	return revocable{"an operator key that is deleted", shown.text("Endpoint"), "", shown.text("ApiKey"), 401, func() {
		_, err := l.call("DeleteModelOperatorApiKey", id)
		require.NoError(l.t, err)
	}}
}

func (l *lender) serviceKey() revocable {
	l.t.Helper()
	described, err := l.call("DescribeModelService", l.service)
	require.NoError(l.t, err)
	return revocable{"a model service's key that is replaced", l.serviceURL, "", described.text("ApiKey"), 401, func() {
		_, err := l.call("RotateModelServiceApiKey", l.service)
		require.NoError(l.t, err)
	}}
}

// silenceNotify lets every NOTIFY of the database come to nothing, and fails the test if one is heard.
func (s *shed) silenceNotify() {
	s.t.Helper()
	var name string
	require.NoError(s.t, s.db.Owner.QueryRow(s.t.Context(), `SELECT current_database()`).Scan(&name))
	s.asSuperuser(s.t.(*testing.T), `CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''`)
	s.asSuperuser(s.t.(*testing.T), `ALTER DATABASE `+name+` SET search_path = public, pg_catalog`)
	ear, err := pgx.Connect(s.t.Context(), s.db.OwnerURL)
	require.NoError(s.t, err)
	_, err = ear.Exec(s.t.Context(), `LISTEN engineshed_publication`)
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		defer ear.Close(context.Background())
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_, err := ear.WaitForNotification(ctx)
		require.ErrorIs(s.t, err, context.DeadlineExceeded, "nothing is heard")
	})
}

// revision is the newest that is published.
func (s *shed) revision() (revision int64) {
	s.t.Helper()
	require.NoError(s.t, s.db.Owner.QueryRow(s.t.Context(), `SELECT revision FROM publication`).Scan(&revision))
	return revision
}

// What is revoked opens nothing at a gateway within five seconds, although no NOTIFY arrives: at one that runs, at one
// that stood still while it was revoked, and at one that was killed and starts with the snapshot file of before. Nor does that need a worker.
func TestWhatIsRevokedOpensNothingAtAnyGateway(t *testing.T) {
	t.Parallel()
	upstream := pathEcho(t)
	s := newShed(t, pgtest.New(t))
	s.upstreams = []string{upstream.Listener.Addr().String()}
	s.silenceNotify()
	control, worker := s.controlPlane("api"), s.controlPlane("worker")
	admin := freeAddr(t)
	gateway := s.launchGateway(s.gateway, admin, "gateway")
	s.waitReady("http://"+admin, gateway)
	l := newLender(t, s, control.addr, upstream.Listener.Addr().String())

	t.Run("that runs", func(t *testing.T) { refusedSoon(t, l.keys()) })
	t.Run("that stood still", func(t *testing.T) {
		keys := l.keys()
		require.NoError(t, gateway.cmd.Process.Signal(syscall.SIGSTOP))
		revoked := s.revokeAll(keys)
		var waiting sync.WaitGroup
		asking := make(chan struct{}, 4*len(keys))
		for _, r := range keys {
			for range 4 {
				waiting.Go(func() {
					asking <- struct{}{}
					got, err := r.ask(t.Context())
					if err != nil || got != r.want {
						t.Errorf("%s is answered %d %v, %s after it was revoked", r.name, got, err, time.Since(revoked).Round(time.Millisecond))
					}
				})
			}
		}
		eventually(t, 10*time.Second, "it is revoked for five seconds, and everybody asks", func() bool {
			return time.Since(revoked) > 5*time.Second && len(asking) == cap(asking)
		})
		require.NoError(t, gateway.cmd.Process.Signal(syscall.SIGCONT))
		waiting.Wait()
	})
	t.Run("that starts with the snapshot file of before", func(t *testing.T) {
		keys := l.keys()
		s.awaitSnapshot()
		gateway.kill()
		revoked := s.revokeAll(keys)
		gateway = s.launchGateway(s.gateway, admin, "gateway")
		var waiting sync.WaitGroup
		for _, r := range keys {
			waiting.Go(func() {
				for time.Since(revoked) < 20*time.Second {
					got, err := r.ask(t.Context())
					switch {
					case err == nil && got == r.want:
						return
					case errors.Is(err, syscall.ECONNREFUSED) || err == nil && got == http.StatusServiceUnavailable: // it starts
					default:
						t.Errorf("%s is answered %d %v", r.name, got, err)
						return
					}
				}
				t.Errorf("%s is not refused within 20s", r.name)
			})
		}
		waiting.Wait()
	})
	t.Run("while no worker runs", func(t *testing.T) {
		keys := l.keys()
		worker.kill()
		refusedSoon(t, keys)
	})
}

// refusedSoon revokes keys, and holds if each of them is refused within five seconds.
func refusedSoon(t *testing.T, keys []revocable) {
	t.Helper()
	var waiting sync.WaitGroup
	for _, r := range keys {
		r.revoke()
		revoked := time.Now()
		waiting.Go(func() {
			for time.Since(revoked) < 5*time.Second {
				if got, err := r.ask(t.Context()); err == nil && got == r.want {
					t.Logf("%s is refused after %s", r.name, time.Since(revoked).Round(time.Millisecond))
					return
				}
			}
			t.Errorf("%s is not refused within 5s", r.name)
		})
	}
	waiting.Wait()
}

// revokeAll revokes keys and waits until that is published.
func (s *shed) revokeAll(keys []revocable) (at time.Time) {
	s.t.Helper()
	before := s.revision()
	for _, r := range keys {
		r.revoke()
	}
	at = time.Now()
	eventually(s.t, 10*time.Second, "it is published", func() bool { return s.revision() >= before+int64(len(keys)) })
	return at
}
