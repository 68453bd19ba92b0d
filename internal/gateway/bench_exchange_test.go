package gateway_test

import (
	"bufio"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkExchange is a request of 1 KB and its answer with everything on, in one process with its client and its upstream,
// which allocate nothing.
func BenchmarkExchange(b *testing.B) {
	g := newRig(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	go func() { _ = new(benchUpstream).serve(l) }()
	s := g.outside("http://" + l.Addr().String())
	a := everything(s.ID)
	g.serveAll(s, a, consumer(callerKey, "Default", "", a.ID))
	ask := load{Path: "/v1/chat/completions", Prompt: 1 << 10}
	request, length := ask.request()
	want := wholeAnswer(length, "wrote")
	conn, err := net.Dial("tcp", g.Addr())
	require.NoError(b, err)
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 8<<10)
	b.ReportAllocs()
	for b.Loop() {
		_, err := conn.Write(request)
		require.NoError(b, err)
		require.NoError(b, expect(in, want))
	}
}
