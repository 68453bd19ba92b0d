// Command controlplane serves the OpenAPI endpoint and runs the workers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/engineshed/engineshed/internal/controlplane"
	"github.com/engineshed/engineshed/internal/telemetry"
)

// gcPercent lets the heap grow to five times what is in use. That is a few MiB, which Go would otherwise collect dozens
// of times a second under load.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	cfg, err := controlplane.Parse(args, getenv)
	if err != nil {
		return err
	}
	return controlplane.Run(ctx, cfg, telemetry.Logger(stdout))
}
