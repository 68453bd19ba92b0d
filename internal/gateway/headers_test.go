package gateway_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// A client reads answers of the version it names: the provider's usual one is for clients that name none.
func TestTheClientsOwnVersionIsMeant(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	seen := make(chan []string, 1)
	e := newEngine(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header["Anthropic-Version"] })
	s := g.outside(e.URL)
	s.Headers = map[string]string{"anthropic-version": "2023-06-01"}
	g.serveAll(s, apiOf(s.ID, chatRoute))
	for own, meant := range map[string]string{"": "2023-06-01", "2026-10-21": "2026-10-21"} {
		r := request(t, http.MethodPost, g.at("/v1/chat/completions"), "{}")
		if own != "" {
			r.Header.Set("Anthropic-Version", own)
		}
		require.Equal(t, 200, do(t, r).status)
		require.Equal(t, []string{meant}, <-seen)
	}
}

// Whoever has an organization of their own set in the environment sends it everywhere. The service's key is of another.
func TestAConsumerDoesNotChooseAmongTheServicesAccounts(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	seen := make(chan http.Header, 1)
	e := newEngine(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	s := g.outside(e.URL)
	g.serveAll(s, apiOf(s.ID, chatRoute))
	r := request(t, http.MethodPost, g.at("/v1/chat/completions"), "{}")
	for _, name := range []string{"OpenAI-Organization", "OpenAI-Project", "X-DashScope-WorkSpace", "OpenAI-Beta", "X-DashScope-Async"} {
		r.Header.Set(name, "its own")
	}
	require.Equal(t, 200, do(t, r).status)
	got := <-seen
	for _, name := range []string{"OpenAI-Organization", "OpenAI-Project", "X-DashScope-WorkSpace"} {
		require.Empty(t, got.Get(name), name)
	}
	for _, name := range []string{"OpenAI-Beta", "X-DashScope-Async"} {
		require.Equal(t, "its own", got.Get(name), name)
	}
}
