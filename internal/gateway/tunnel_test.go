package gateway_test

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// socketEngine upgrades every request and hands its side of the connection over.
func socketEngine(t *testing.T) (*engine, <-chan net.Conn) {
	t.Helper()
	conns := make(chan net.Conn, 1)
	return newEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		conns <- conn
	}), conns
}

func TestAWebSocketEndsSoonAfterOneOfItsEndsHas(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(client, service net.Conn) (stays net.Conn){
		"the service's": func(client, service net.Conn) net.Conn { service.Close(); return client },
		"the client's":  func(client, service net.Conn) net.Conn { client.Close(); return service },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := prepareRig(t, newDB(t))
			g.settings.DrainTimeout = time.Minute // longer than a test waits
			g.start()
			g.awaitReady()
			e, conns := socketEngine(t)
			s := g.outside(e.URL)
			g.serveAll(s, apiOf(s.ID, "ComfyUI GET Exact /ws"))
			client, _, status := dialWebSocket(t, g.Addr(), "/ws")
			require.Equal(t, http.StatusSwitchingProtocols, status)
			service := <-conns
			stays := leave(client, service)
			defer stays.Close()
			require.NoError(t, stays.SetReadDeadline(time.Now().Add(deadline)))
			_, err := stays.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF, "it is told at once")
			g.halt() // which waits for every WebSocket
		})
	}
}
