package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noEnv(string) string { return "" }

// program is the whole program, run inside the test.
type program struct {
	addr   string
	stop   func()
	status chan int
}

// launch runs the program with a free port and waits until it listens.
func launch(t *testing.T, args ...string) program {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	out, in := io.Pipe()
	p := program{stop: stop, status: make(chan int, 1)}
	go func() {
		p.status <- run(ctx, append(args, "--port=0"), noEnv, io.Discard, in)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), "listening on http://"); ok {
			p.addr = addr
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	require.NotEmpty(t, p.addr, "it does not listen")
	return p
}

// health is nil when the program says within the time that it is healthy.
func (p program) health(limit time.Duration) error {
	client := &http.Client{Timeout: limit}
	response, err := client.Get("http://" + p.addr + "/health")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// ends returns the status that the program ends with, which it must within a second.
func (p program) ends(t *testing.T) int {
	t.Helper()
	select {
	case status := <-p.status:
		return status
	case <-time.After(time.Second):
		t.Fatal("it does not end within a second")
		return -1
	}
}

func TestProgramServesAndEndsWhenAsked(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "Qwen/Qwen3-8B")
	for path, want := range map[string]string{"/health": "", "/version": `{"version":"simulated-0.1"}`} {
		response, err := http.Get("http://" + p.addr + path)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, want, string(body))
	}
	p.stop()
	require.Zero(t, p.ends(t))
	_, err := net.Dial("tcp", p.addr)
	require.Error(t, err)
	http.DefaultClient.CloseIdleConnections()
}

func TestOpenStreamIsCutWhenTheProgramMustEnd(t *testing.T) {
	t.Parallel()
	p := launch(t, "--sim-inter-token-latency=1h", "serve", "m")
	stream := openStream(t, "http://"+p.addr)
	require.Contains(t, stream.next(t), `"role":"assistant"`)
	require.Contains(t, stream.next(t), `"content":"["`) // the first token is here and the second is an hour away
	p.stop()
	require.Zero(t, p.ends(t))
	_, err := io.ReadAll(stream.lines)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a cut stream must not look whole")
}

func TestShortAnswerIsFinishedBeforeTheProgramEnds(t *testing.T) {
	t.Parallel()
	p := launch(t, "--sim-inter-token-latency=1ms", "serve", "m")
	stream := openStream(t, "http://"+p.addr)
	stream.next(t)
	p.stop()
	rest, err := io.ReadAll(stream.lines)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(rest), "data: [DONE]\n\n"))
	require.Zero(t, p.ends(t))
}

func TestPortOpensAfterTheStartupDelay(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(addr)
	ctx, stop := context.WithCancel(t.Context())
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"--sim-startup-delay=1h", "serve", "m", "--port", port}, noEnv, io.Discard, io.Discard)
	}()
	_, err = net.Dial("tcp", addr)
	require.Error(t, err)
	stop()
	require.Zero(t, program{status: status}.ends(t))
}

func TestSimulatedCrash(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--sim-exit-after=20ms", "serve", "m", "--port=0"},
		{"--sim-exit-after=20ms", "--sim-startup-delay=1h", "serve", "m"},
	} {
		var log strings.Builder
		require.Equal(t, exitCrash, run(t.Context(), args, noEnv, io.Discard, &log))
		require.Contains(t, log.String(), "simulated crash")
	}
}

func TestCrashWithTheLastWordsAtTheRequestThatIsOneTooMany(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	out, in := io.Pipe()
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"--sim-exit-after-requests=2", "--sim-last-words=CUDA out of memory.", "serve", "m", "--port=0"}, noEnv, io.Discard, in)
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	var last string
	for lines.Scan() {
		last = lines.Text()
		if _, addr, ok := strings.Cut(last, "listening on http://"); ok {
			go func() {
				for range 2 {
					if response, err := http.Post("http://"+addr+"/tokenize", "application/json", strings.NewReader(`{"prompt":"a"}`)); err == nil {
						response.Body.Close()
					}
				}
				http.DefaultClient.CloseIdleConnections()
			}()
		}
	}
	require.Equal(t, "CUDA out of memory.", last)
	require.Equal(t, exitCrash, program{status: status}.ends(t))
}

func TestEngineThatHangsAnswersNothing(t *testing.T) {
	t.Parallel()
	p := launch(t, "--sim-hang-after=1ns", "serve", "m")
	require.ErrorContains(t, p.health(100*time.Millisecond), "deadline exceeded")
	p.stop()
	require.Zero(t, p.ends(t))
}

func TestHealthTakesItsTime(t *testing.T) {
	t.Parallel()
	p := launch(t, "--sim-health-delay=150ms", "serve", "m")
	require.ErrorContains(t, p.health(50*time.Millisecond), "deadline exceeded")
	require.NoError(t, p.health(10*time.Second))
	p.stop()
	require.Zero(t, p.ends(t))
}

func TestTakenPortIsAnError(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "m")
	_, port, _ := net.SplitHostPort(p.addr)
	var log strings.Builder
	require.Equal(t, exitCrash, run(t.Context(), []string{"serve", "m", "--port", port}, noEnv, io.Discard, &log))
	require.Contains(t, log.String(), "address already in use")
	p.stop()
	require.Zero(t, p.ends(t))
}

func TestCommandLinesItRefuses(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"must be serve":                               {},
		"must be serve ":                              {"chat", "m"},
		"not defined: -sim-no-such-knob":              {"--sim-no-such-knob=1", "serve", "m"},
		"sim-startup-delay":                           {"--sim-startup-delay=soon", "serve", "m"},
		"must not be negative":                        {"--sim-startup-delay=-1s", "serve", "m"},
		"required: model_tag":                         {"serve"},
		"unrecognized arguments: --no-such-flag x":    {"serve", "m", "--no-such-flag", "x"},
		"unrecognized arguments: --sim-startup-delay": {"serve", "m", "--sim-startup-delay"},
		"unrecognized arguments: n":                   {"serve", "m", "n"},
		"unrecognized arguments: -x":                  {"serve", "m", "-x"},
		"argument --dtype: invalid choice":            {"serve", "m", "--dtype=int3"},
		"argument --seed: invalid value":              {"serve", "m", "--seed", "x"},
		"argument --max-model-len: invalid value":     {"serve", "m", "--max-model-len=lots"},
		"argument --max-model-len: expected one":      {"serve", "m", "--max-model-len"},
		"argument --host: expected one":               {"serve", "m", "--host", "--port=1"},
		"ignored explicit argument":                   {"serve", "m", "--enforce-eager=true"},
		"unrecognized arguments: --no-dtype":          {"serve", "m", "--no-dtype"},
		"must be positive":                            {"serve", "m", "--max-num-seqs=0"},
	} {
		var log strings.Builder
		require.Equal(t, exitUsage, run(t.Context(), args, noEnv, io.Discard, &log), "%q", args)
		require.Contains(t, log.String(), strings.TrimSpace(want))
	}
}

func TestFlagsAreReadAsVLLMDoes(t *testing.T) {
	t.Parallel()
	keyFromEnv := func(string) string { return "from-env" }
	for _, c := range []struct {
		args []string
		env  func(string) string
		want options
	}{
		{[]string{"m"}, noEnv, options{addr: "127.0.0.1:8000", names: []string{"m"}, root: "m", keys: []string{}, maxModelLen: 32768, maxNumSeqs: 256, prefixCaching: true, blockSize: 16, blocks: 16384}},
		{[]string{"m"}, keyFromEnv, options{addr: "127.0.0.1:8000", names: []string{"m"}, root: "m", keys: []string{"from-env"}, maxModelLen: 32768, maxNumSeqs: 256, prefixCaching: true, blockSize: 16, blocks: 16384}},
		{
			[]string{"--served_model_name", "a", "b", "--max-model-len=4k", "--api-key", "k", "l", "--no-enable-prefix-caching", "-tp", "2", "--seed", "-1", "--host", "::1", "--trust_remote_code", "--middleware", "x", "--max_num_seqs=7", "--num-gpu-blocks-override", "9", "--block-size=32", "--enable-prompt-tokens-details", "m", "--port", "1"},
			keyFromEnv,
			options{addr: "[::1]:1", names: []string{"a", "b"}, root: "m", keys: []string{"k", "l"}, maxModelLen: 4000, maxNumSeqs: 7, blockSize: 32, blocks: 9, promptDetails: true},
		},
	} {
		got, err := parseServe(c.args, c.env)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.Zero(t, run(t.Context(), []string{"--help"}, noEnv, &out, io.Discard))
	require.Contains(t, out.String(), "--sim-time-to-first-token")
	out.Reset()
	require.Zero(t, run(t.Context(), []string{"version"}, noEnv, &out, io.Discard))
	require.Equal(t, "simulated-0.1\n", out.String())
	out.Reset()
	require.Zero(t, run(t.Context(), []string{"--sim-startup-delay=1s", "--version"}, noEnv, &out, io.Discard))
	require.Equal(t, "simulated-0.1\n", out.String())
	out.Reset()
	require.Zero(t, run(t.Context(), []string{"serve", "--help=all"}, noEnv, &out, io.Discard))
	require.Contains(t, out.String(), "  --enable-prefix-caching, --no-enable-prefix-caching\n")
	require.Contains(t, out.String(), "  --runner {auto,generate,pooling,draft}\n")
	require.Contains(t, out.String(), "  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE\n")
	require.Contains(t, out.String(), "  --api-key API_KEY [API_KEY ...]\n")
}
