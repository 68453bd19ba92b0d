package record

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/gateway/protocol"
)

// away is a recorder whose database is not there.
func away(t *testing.T) *Recorder {
	t.Helper()
	r, err := Open("postgres://nobody@127.0.0.1:1/none", "test", io.Discard, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func metrics(t *testing.T, r *Recorder) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(r))
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			values[strings.TrimSuffix(f.GetName()+" "+strings.Join(labels, "/"), " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}

func TestRecordsThatAreTooManyAreDroppedAndCounted(t *testing.T) {
	t.Parallel()
	r := away(t)
	for range maxWaiting + 10 {
		r.Add(New())
	}
	got := metrics(t, r)
	require.EqualValues(t, 10, got["engineshed_gateway_usage_dropped_total full"])
	require.EqualValues(t, maxWaiting, got["engineshed_gateway_usage_waiting"])

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, r.Run(ctx))
	require.EqualValues(t, maxWaiting, metrics(t, r)["engineshed_gateway_usage_dropped_total ended"])
	require.EqualValues(t, 0, metrics(t, r)["engineshed_gateway_usage_waiting"])
}

// stuck is a log that nobody reads until it is closed.
type stuck struct {
	asked, free chan struct{}
	lines       bytes.Buffer
}

func (s *stuck) Write(lines []byte) (int, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.free
	return s.lines.Write(lines)
}

func TestALogThatIsStuckHoldsNobodyUpAndLosesNoLine(t *testing.T) {
	t.Parallel()
	const adders, each = 8, 5000
	log := &stuck{asked: make(chan struct{}, 1), free: make(chan struct{})}
	r := away(t)
	r.lines.to = log
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	add := func(adder, from, to int) {
		for i := from; i < to; i++ {
			rec := New()
			rec.RequestID = fmt.Sprintf("%d %d", adder, i)
			rec.Log(Line{})
			r.Add(rec)
		}
	}
	add(0, 0, 1)
	<-log.asked
	var all sync.WaitGroup
	for adder := range adders {
		all.Go(func() { add(adder, 1, each) })
	}
	all.Wait()
	close(log.free)
	cancel()
	require.NoError(t, <-ended)

	var seen [adders]int
	for text := range strings.Lines(log.lines.String()) {
		var read struct{ RequestID string }
		require.NoError(t, json.Unmarshal([]byte(text), &read), text)
		var adder, i int
		_, err := fmt.Sscan(read.RequestID, &adder, &i)
		require.NoError(t, err)
		require.Greater(t, i, seen[adder]-1, "lines keep the order in which one adds them")
		seen[adder] = i
	}
	for adder, last := range seen {
		require.Equal(t, each-1, last, "adder %d", adder)
	}
	require.Equal(t, 1+adders*(each-1), strings.Count(log.lines.String(), "\n"))
}

func TestRefusalsAreRecordedWithinASecondsBound(t *testing.T) {
	t.Parallel()
	r := away(t)
	before := time.Now().Unix()
	for range 5 * maxRefused {
		rec := New()
		rec.EndState = Refused
		r.Add(rec)
	}
	seconds := time.Now().Unix() - before + 1
	got := metrics(t, r)
	require.LessOrEqual(t, got["engineshed_gateway_usage_waiting"], float64(maxRefused*seconds))
	require.GreaterOrEqual(t, got["engineshed_gateway_usage_dropped_total refusals"], float64(maxRefused*(5-seconds)))
}

func TestContentThatWaitsIsBounded(t *testing.T) {
	t.Parallel()
	r := away(t)
	text := strings.Repeat("x", maxContent/4)
	for range 10 {
		rec := New()
		rec.Line = &Line{Content: []Content{{"question", text}}}
		r.Add(rec)
	}
	require.LessOrEqual(t, r.content.Load(), int64(maxContent+10*100), "but for the marks in its place")
}

func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	r := away(t)
	count := func(route, model, configured string) {
		r.Count(&Record{APIName: route, ServiceName: "s", Model: model, Usage: protocol.Usage{Known: true, Total: 1}}, configured)
	}
	for i := range maxModels + 50 {
		count("a", fmt.Sprint("model-", i), "")
	}
	const prefix = "route_upstream_model_consumer_metric_total_token "
	got := metrics(t, r)
	require.EqualValues(t, 1, got[prefix+"s/none/model-0/a"])
	require.EqualValues(t, 50, got[prefix+"s/none/other/a"])
	count("a", "new", "configured")
	require.EqualValues(t, 1, metrics(t, r)[prefix+"s/none/configured/a"], "a configured name is always told apart")

	for i := range maxSeries {
		count(fmt.Sprint("route-", i), "", "m")
	}
	got = metrics(t, r)
	require.EqualValues(t, maxModels+2, got[prefix+"other/other/other/other"])
	count("a", "x\xff", "") // no name of a label, but for its bytes
	r.Count(&Record{APIName: "unseen"}, "m")
	require.NotContains(t, metrics(t, r), prefix+"s/none/m/unseen", "a request that does not tell its usage is not counted")
}

func TestRowIsEscaped(t *testing.T) {
	t.Parallel()
	row := string(appendRow(nil, "p\t\\", &Record{Route: "a\nb\rc", Total: 1500 * time.Millisecond}))
	require.True(t, strings.HasPrefix(row, `p\t\\`+"\t"))
	require.Contains(t, row, `a\nb\rc`)
	require.True(t, strings.HasSuffix(row, "\t\\N\t1500\t\\N\n"))
	require.True(t, strings.HasSuffix(string(appendRow(nil, "p", &Record{OperatorKey: 7})), "\t0\t7\n"))
}

func TestRowsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringMatching(`[\\\t\n\rN"a-c\x{fffd}]{0,6}`), 1, 40).Draw(t, "routes")
		var b batch
		for i, text := range texts {
			b.add("gateway", &Record{RequestID: strconv.Itoa(i), Route: text, Usage: protocol.Usage{Known: i%2 == 0, Input: int64(i)}})
		}
		for parts := []batch{b}; len(parts) < len(texts); { // down to single rows, and back
			var halved []batch
			for _, part := range parts {
				if part.count == 1 {
					halved = append(halved, part)
					continue
				}
				one, other := part.halves()
				halved = append(halved, one, other)
			}
			parts = halved
			for _, part := range parts {
				require.Equal(t, part.count, bytes.Count(part.rows, []byte("\n")))
			}
			require.Equal(t, []batch{b}, keep(nil, slices.Clone(parts)...))
		}
		values := b.values()
		require.Len(t, values, len(columns))
		for i, text := range texts {
			require.Equal(t, strconv.Itoa(i), *values[requestIDColumn].([]*string)[i])
			require.Equal(t, text, *values[6].([]*string)[i])
			if input := values[16].([]*string)[i]; i%2 == 0 {
				require.Equal(t, strconv.Itoa(i), *input)
			} else {
				require.Nil(t, input)
			}
		}
	})
}

func TestLineIsJSONWhateverIsInIt(t *testing.T) {
	t.Parallel()
	r := &Record{
		APIName: "a\"b\\\n", Model: "<ü\xff>", RequestID: "id", Status: 200, Streamed: true, FirstContent: time.Millisecond,
		Line: &Line{Path: "/\x00", TraceID: "t", Content: []Content{{"question", "\u2028 \"q\""}, {"answer", ""}}},
	}
	var out bytes.Buffer
	log := &requestLog{to: &out}
	for _, rec := range []*Record{r, {}, r} {
		log.add(rec)
	}
	log.write()
	require.Equal(t, 2, strings.Count(out.String(), "\n"), "a record without a line has none")
	for text := range strings.Lines(out.String()) {
		var read struct {
			Msg, RequestID, TraceID, Path string
			AI                            map[string]any `json:"ai_log"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &read), text)
		require.Equal(t, []string{"request", "id", "t", "/\x00"}, []string{read.Msg, read.RequestID, read.TraceID, read.Path})
		require.Equal(t, []any{"a\"b\\\n", "<ü\ufffd>", "\u2028 \"q\"", "stream"},
			[]any{read.AI["api"], read.AI["model"], read.AI["question"], read.AI["response_type"]})
		require.NotContains(t, read.AI, "answer")
	}
}

// BenchmarkRecord is what is written of one request.
func BenchmarkRecord(b *testing.B) {
	r := &Record{
		BeganAt: time.Now(), RequestID: "4c6a1f2e5b7d8091a2b3c4d5e6f70812", AccountID: "1000000000000001", API: "api-0123456789abcdefghij",
		APIName: "chat", Route: "chat completions", Service: "svc-0123456789abcdefghij", ServiceName: "qwen", ModelAsked: "demo",
		Model: "Qwen3-8B", Consumer: "cs-0123456789abcdefghij", ConsumerName: "alice", EndState: Complete, Status: 200,
		Usage: protocol.Usage{Known: true, Input: 240, Output: 210, Total: 450}, Total: 812 * time.Millisecond,
		Line: &Line{Method: "POST", Path: "/v1/chat/completions", ChatID: "chatcmpl-1", Turns: 3},
	}
	for name, add := range map[string]func(to []byte) []byte{
		"line": func(to []byte) []byte { return r.appendLine(to) },
		"row":  func(to []byte) []byte { return appendRow(to, "gateway-1", r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var to []byte
			for b.Loop() {
				to = add(to[:0])
			}
		})
	}
}
