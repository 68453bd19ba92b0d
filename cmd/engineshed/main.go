// Command engineshed is the one that people type: it runs everything on this machine and calls the API.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "engineshed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	root := newRoot(getenv, stdout)
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}
