package http1_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/gateway/upstream/http1"
)

// BenchmarkRoundTrip asks a server on loopback for 1 KB with 1 KB, beside net/http's Transport.
func BenchmarkRoundTrip(b *testing.B) {
	kilobyte := make([]byte, 1<<10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(kilobyte)
	}))
	b.Cleanup(s.Close)
	ours, _ := clientOf(b, s.Listener.Addr().String())
	for name, rt := range map[string]http.RoundTripper{"ours": ours, "net-http": &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			answer := make([]byte, 4<<10)
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.URL+"/v1/chat/completions", http1.Lent(nil, kilobyte))
				require.NoError(b, err)
				if name != "ours" {
					r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(kilobyte)), int64(len(kilobyte))
				}
				r.Header["Content-Type"] = []string{"application/json"}
				response, err := rt.RoundTrip(r)
				require.NoError(b, err)
				n, err := io.ReadFull(response.Body, answer[:len(kilobyte)])
				require.NoError(b, err)
				require.Equal(b, len(kilobyte), n)
				_, err = response.Body.Read(answer)
				require.Equal(b, io.EOF, err)
				_ = response.Body.Close()
			}
		})
	}
}
