// Command vllm-sim is a stand-in engine: vLLM's command line and HTTP surface without weights, for machines that have
// no vLLM. Whatever it says begins with "[simulated]".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

const version = "simulated-0.1"

const usage = `usage: vllm-sim [knobs] serve MODEL [vLLM's flags]

A simulated engine: it speaks vLLM's command line and HTTP and loads no model. Flags of vLLM that would change
what a model computes are checked and have no effect.

knobs:
  --sim-startup-delay D         time until the port opens (default 0s)
  --sim-time-to-first-token D   time from a request to its first token (default 0s)
  --sim-inter-token-latency D   time between two tokens (default 0s)
  --sim-prefill-latency D       time to compute 1,000 tokens of a prompt that are not cached, one prompt after the
                                other; it comes before the time to the first token (default 0s)
  --sim-exit-after D            crash with status 1 this long after the start (default never)
  --sim-exit-after-requests N   crash when the Nth POST arrives (default never)
  --sim-last-words TEXT         what a crash prints last (default says which knob it was)
  --sim-hang-after D            answer nothing any more, /health included, this long after the start (default never)
  --sim-health-delay D          time that /health takes (default 0s)

vLLM's flags that have an effect: --host (default 127.0.0.1), --port (8000), --served-model-name, --api-key,
--max-model-len, --max-num-seqs, --enable-prefix-caching (on), --num-gpu-blocks-override (16384 blocks are kept),
--block-size (16 tokens), --enable-prompt-tokens-details, --runner=pooling (it embeds, scores and reranks instead of
generating). The variable VLLM_API_KEY does what --api-key does.
`

// The statuses the program ends with; argparse, and so vLLM, uses 2 for a wrong command line.
const (
	exitCrash = 1
	exitUsage = 2
)

// drain is how long open requests may go on after SIGTERM before they are cut.
const drain = 700 * time.Millisecond

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// knobs are what a simulated engine can be told beyond vLLM's own flags.
type knobs struct {
	startupDelay, timeToFirstToken, interTokenLatency, exitAfter time.Duration

	prefillLatency time.Duration // of 1,000 tokens

	exitAfterRequests      int // 0: never
	lastWords              string
	hangAfter, healthDelay time.Duration
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	k, rest, err := parseKnobs(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		return refuse(stderr, err)
	case len(rest) == 1 && rest[0] == "version":
		fmt.Fprintln(stdout, version)
		return 0
	case len(rest) == 0 || rest[0] != "serve":
		return refuse(stderr, errors.New("the first argument after the knobs must be serve"))
	case len(rest) == 2 && rest[1] == "--help=all":
		for _, f := range engineFlags {
			fmt.Fprintln(stdout, " ", f.help())
		}
		return 0
	}
	o, err := parseServe(rest[1:], getenv)
	if err != nil {
		return refuse(stderr, err)
	}
	fmt.Fprintf(stderr, "vllm-sim %s: a simulated engine for %s, no model is loaded\n", version, o.root)
	if err := serve(ctx, k, o, stderr); err != nil {
		fmt.Fprintln(stderr, err)
		return exitCrash
	}
	return 0
}

func refuse(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "usage: vllm-sim [knobs] serve MODEL [options]; vllm-sim --help says more\nvllm-sim: error: %v\n", err)
	return exitUsage
}

func parseKnobs(args []string) (knobs, []string, error) {
	var k knobs
	if len(args) > 0 && args[len(args)-1] == "--version" { // as vLLM's own, whatever knobs stand before it
		return k, []string{"version"}, nil
	}
	flags := flag.NewFlagSet("vllm-sim", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.DurationVar(&k.startupDelay, "sim-startup-delay", 0, "")
	flags.DurationVar(&k.timeToFirstToken, "sim-time-to-first-token", 0, "")
	flags.DurationVar(&k.interTokenLatency, "sim-inter-token-latency", 0, "")
	flags.DurationVar(&k.prefillLatency, "sim-prefill-latency", 0, "")
	flags.DurationVar(&k.exitAfter, "sim-exit-after", 0, "")
	flags.IntVar(&k.exitAfterRequests, "sim-exit-after-requests", 0, "")
	flags.StringVar(&k.lastWords, "sim-last-words", "", "")
	flags.DurationVar(&k.hangAfter, "sim-hang-after", 0, "")
	flags.DurationVar(&k.healthDelay, "sim-health-delay", 0, "")
	err := flags.Parse(args)
	if min(k.startupDelay, k.timeToFirstToken, k.interTokenLatency, k.prefillLatency, k.exitAfter, k.hangAfter, k.healthDelay) < 0 || k.exitAfterRequests < 0 {
		err = errors.Join(err, errors.New("a duration or a number of requests must not be negative"))
	}
	return k, flags.Args(), err
}

// serve runs the engine until ctx ends (nil) or the simulated crash comes.
func serve(ctx context.Context, k knobs, o options, stderr io.Writer) error {
	ctx, crash := context.WithCancelCause(ctx)
	defer crash(nil)
	if k.exitAfter > 0 {
		timer := time.AfterFunc(k.exitAfter, func() { crash(k.crash("--sim-exit-after %s", k.exitAfter)) })
		defer timer.Stop()
	}
	if wait(ctx, k.startupDelay) != nil {
		return whyEnded(ctx)
	}
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return fmt.Errorf("vllm-sim: error: %w", err)
	}
	fmt.Fprintf(stderr, "vllm-sim: listening on http://%s\n", listener.Addr())
	if err := serveUntil(ctx, listener, k.faulty(newEngine(k, o).handler(), crash)); err != nil {
		return err
	}
	return whyEnded(ctx)
}

// crashed is a simulated crash; its text is the last that the program prints.
type crashed string

func (c crashed) Error() string { return string(c) }

// crash is the crash that a knob caused.
func (k knobs) crash(knob string, value any) error {
	if k.lastWords != "" {
		return crashed(k.lastWords)
	}
	return crashed("vllm-sim: error: simulated crash, " + fmt.Sprintf(knob, value))
}

// faulty answers health late, nothing at all when it is time to hang, and crashes with the request that is one too many.
func (k knobs) faulty(next http.Handler, crash context.CancelCauseFunc) http.Handler {
	began := time.Now()
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && int(asked.Add(1)) == k.exitAfterRequests {
			crash(k.crash("--sim-exit-after-requests %d", k.exitAfterRequests))
		}
		if k.hangAfter > 0 && time.Since(began) >= k.hangAfter {
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/health" && wait(r.Context(), k.healthDelay) != nil {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// whyEnded is nil when ctx ended because the program was asked to end.
func whyEnded(ctx context.Context) error {
	var crash crashed
	if errors.As(context.Cause(ctx), &crash) {
		return crash
	}
	return nil
}

// serveUntil serves until ctx ends, then lets open requests finish for the drain time and cuts the rest.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler) error {
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	if whyEnded(ctx) != nil { // a crash waits for nobody
		return server.Close()
	}
	grace, cancel := context.WithTimeout(requests, drain)
	defer cancel()
	if server.Shutdown(grace) != nil {
		cut()
		return server.Close()
	}
	return nil
}

// wait returns after d, or with ctx's error when ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
