package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/up"
)

// beside is what a verb has that does the control plane's work on its machine: its database and its master key.
type beside struct {
	db            *pgxpool.Pool
	masterKeyFile string
	dataDir       string
	output        string
}

// operatorCommand is a verb that works beside the control plane, with its files.
func (p *program) operatorCommand(cmd *cobra.Command, run func(ctx context.Context, b *beside) error) *cobra.Command {
	b := &beside{}
	flags := cmd.Flags()
	flags.StringVar(&b.masterKeyFile, "master-key-file", "", "the control plane's master key (default: the one in the data directory)")
	flags.StringVar(&b.dataDir, "data-dir", "", "data directory of engineshed up, which also says where the database is unless DATABASE_URL does")
	flags.StringVarP(&b.output, "output", "o", "table", "table for people, json for programs")
	if cmd.Args == nil {
		cmd.Args = cobra.NoArgs
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := b.open(ctx, p.getenv); err != nil {
			return err
		}
		defer b.db.Close()
		return run(ctx, b)
	}
	return cmd
}

func (b *beside) open(ctx context.Context, getenv func(string) string) error {
	if b.output != "table" && b.output != "json" {
		return fmt.Errorf("--output takes table or json, not %q", b.output)
	}
	var err error
	if b.dataDir, err = dataDirOf(b.dataDir, getenv); err != nil {
		return err
	}
	b.masterKeyFile = or(b.masterKeyFile, up.MasterKeyFile(b.dataDir))
	b.db, err = openBeside(ctx, b.dataDir, getenv)
	return err
}

// dataDirOf is the data directory of engineshed up: the one that is named, or the usual one.
func dataDirOf(named string, getenv func(string) string) (string, error) {
	if named != "" {
		return named, nil
	}
	return up.DefaultDataDir(getenv)
}

// openBeside opens the control plane's database: the one of DATABASE_URL, or that of the data directory.
func openBeside(ctx context.Context, dataDir string, getenv func(string) string) (*pgxpool.Pool, error) {
	url, err := databaseURL(dataDir, getenv)
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	return db, nil
}

func databaseURL(dataDir string, getenv func(string) string) (string, error) {
	if url := getenv("DATABASE_URL"); url != "" {
		return url, nil
	}
	text, err := os.ReadFile(up.DatabaseURLFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("set DATABASE_URL to the URL of the role engineshed_control, or give the --data-dir of engineshed up: %w", err)
	}
	return strings.TrimSpace(string(text)), err
}

// master opens the master key.
func (b *beside) master() (*secret.Box, error) {
	box, err := secret.Load(b.masterKeyFile)
	if err != nil {
		return nil, fmt.Errorf("--master-key-file: %w", err)
	}
	return box, nil
}
