package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
)

func (p *program) migrate() *cobra.Command {
	var owner, control, gateway string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make the database roles and bring the schema up to date",
		Long: `Makes the roles engineshed_owner, engineshed_control and engineshed_gateway unless they exist, and migrates the schema,
in the database that MIGRATE_DATABASE_URL names. That role may create roles, or is engineshed_owner once they exist.
up does all this by itself. Roles that are missing get the passwords in the given files.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			url := p.getenv("MIGRATE_DATABASE_URL")
			if url == "" {
				return errors.New("MIGRATE_DATABASE_URL is not set: give the URL of a role that may create roles")
			}
			var passwords postgres.RolePasswords
			err := errors.Join(
				readPassword(owner, &passwords.Owner), readPassword(control, &passwords.Control), readPassword(gateway, &passwords.Gateway))
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return p.runMigrate(ctx, url, passwords)
		},
	}
	cmd.Flags().StringVar(&owner, "owner-password-file", "", "file with the password of engineshed_owner")
	cmd.Flags().StringVar(&control, "control-password-file", "", "file with the password of engineshed_control")
	cmd.Flags().StringVar(&gateway, "gateway-password-file", "", "file with the password of engineshed_gateway")
	return cmd
}

func (p *program) runMigrate(ctx context.Context, url string, passwords postgres.RolePasswords) error {
	if err := postgres.Migrate(ctx, url, passwords); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "The database is up to date.")
	return nil
}

func readPassword(path string, into *secret.Secret) error {
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	*into = secret.New(strings.TrimRight(string(text), "\r\n"))
	if into.IsZero() {
		return fmt.Errorf("%s is empty: write the password into it", path)
	}
	return nil
}
