// Command gateway carries the traffic of model services and Model APIs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/engineshed/engineshed/internal/config"
	"github.com/engineshed/engineshed/internal/gateway"
	"github.com/engineshed/engineshed/internal/telemetry"
)

// slack is memory that is never touched, so that the system gives none for it. The garbage collector counts it, and runs
// after as much has been allocated: for the few megabytes that a gateway holds it would run dozens of times a second.
const slack = 24 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	boundMemory()
	context.AfterFunc(ctx, stop) // a second signal does not wait for the drain
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	defer runtime.KeepAlive(make([]byte, slack))
	s := gateway.Settings{DatabaseURL: getenv("GATEWAY_DATABASE_URL"), RequestLog: stdout}
	flags := pflag.NewFlagSet("gateway", pflag.ContinueOnError)
	flags.SetOutput(stdout)
	flags.StringVar(&s.Addr, "addr", "127.0.0.1:8090", "private address: every model service is served here")
	flags.StringVar(&s.PublicAddr, "public-addr", "", "public address: model services with a public connection are served here")
	flags.StringVar(&s.HTTPSAddr, "https-addr", "", "address where domains of Model APIs are served with their certificates")
	flags.StringVar(&s.AdminAddr, "admin-addr", "127.0.0.1:8092", "address of /healthz, /readyz and /metrics")
	flags.StringVar(&s.TLSCert, "tls-cert", "", "certificate file (PEM) of both listeners")
	flags.StringVar(&s.TLSKey, "tls-key", "", "key file (PEM) of both listeners")
	flags.BoolVar(&s.Insecure, "insecure", false, "allow plain HTTP on an address that other machines reach")
	flags.StringVar(&s.SnapshotKeyFile, "snapshot-key-file", "", "the snapshot key, the same as the control plane's (required)")
	flags.StringVar(&s.DataDir, "data-dir", "", "directory of the snapshot file, served when the database is away at the start")
	flags.Int64Var(&s.MaxBody, "max-body-bytes", 10<<20, "largest accepted body of a request")
	flags.IntVar(&s.MaxConcurrency, "max-concurrency", 10_000, "requests that run at once, WebSockets included; further ones are 503 (0: no limit)")
	flags.IntVar(&s.MaxQueue, "max-queue", 0, "requests that wait for their turn beyond --max-concurrency, rather than being refused")
	flags.Int64Var(&s.MaxBodyMemory, "max-body-memory", 0,
		"bytes of all bodies that are held at once; further ones are 503 (default a quarter of GOMEMLIMIT, or of the memory there is)")
	flags.DurationVar(&s.BodyIdleTimeout, "body-idle-timeout", 30*time.Second, "how long a request's body may stop coming (0: for ever)")
	flags.DurationVar(&s.WriteIdleTimeout, "write-idle-timeout", 5*time.Minute, "how long a client may stop reading its answer (0: for ever)")
	flags.StringVar(&s.GatewayID, "gateway-id", "", "serve the Model APIs of this gateway only (default all)")
	flags.StringSliceVar(&s.AllowUpstream, "allow-upstream", nil,
		"CIDR or ip:port that services of Model APIs may have though it is not public (repeatable, the same as the control plane's)")
	flags.DurationVar(&s.DrainNotice, "drain-notice", 2*time.Second,
		"how long requests are still taken after SIGTERM while /readyz says no: as long as load balancers need to see it")
	flags.StringVar(&s.OTLPEndpoint, "otlp-endpoint", getenv("OTEL_EXPORTER_OTLP_ENDPOINT"),
		"collector that traces of Model APIs with AI statistics are sent to, OTLP over HTTP: http://host:4318 (default OTEL_EXPORTER_OTLP_ENDPOINT)")
	flags.DurationVar(&s.DrainTimeout, "drain-timeout", 30*time.Second, "how long running requests may take after SIGTERM")
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if err := config.FromEnv(flags, getenv); err != nil {
		return err
	}
	if s.MaxBodyMemory == 0 {
		s.MaxBodyMemory = bodyMemory(s.MaxBody)
	}
	g, err := gateway.Open(s, telemetry.Logger(stdout))
	if err != nil {
		return err
	}
	return g.Run(ctx)
}
