// Command engineshed is the one that people type: it runs everything on this machine and calls the API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	err := run(context.Background(), os.Args[1:], os.Getenv, os.Stdout)
	switch {
	case err == nil:
	case errors.Is(err, errDiffers):
		os.Exit(1) // what differs is printed
	default:
		fmt.Fprintln(os.Stderr, "engineshed:", err)
		os.Exit(exitStatus(err))
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	root := newRoot(getenv, stdout)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && cmd.Annotations[asDiff] != "" {
		return trouble{err}
	}
	return err
}

// asDiff annotates a verb that ends as diff does: with 0 without differences, with 1 and errDiffers when there are any, and
// with 2 when there is trouble.
const asDiff = "exit status as of diff"

var errDiffers = errors.New("there are differences")

type trouble struct{ error }

func (t trouble) Unwrap() error { return t.error }

func exitStatus(err error) int {
	if _, ok := errors.AsType[trouble](err); ok {
		return 2
	}
	return 1
}
