package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/up"
)

func (p *program) keys() *cobra.Command {
	return &cobra.Command{
		Use:   "keys DIR",
		Short: "Make the key files of an installation that runs without up",
		Long: `Makes the files that an installation keeps secret, unless they are there. up does this by itself; call it once where the
programs run in containers or on several hosts, and give each host the folders it needs:

  DIR/control    master.key, snapshot.key, root.json (the first account and its access key), pgpass
                 for control planes and workers
  DIR/gateway    snapshot.key, pgpass
                 for gateways
  DIR/database   owner.password, control.password, gateway.password for engineshed migrate;
                 admin.password and pgpass for the role that migrates, if Postgres is new, too

A pgpass holds a password for a connection string that ends in ?passfile=PATH.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			made, err := up.MakeKeys(args[0])
			for _, name := range made {
				fmt.Fprintf(p.stdout, "made %s\n", name)
			}
			if err == nil && len(made) == 0 {
				fmt.Fprintln(p.stdout, "All key files are there.")
			}
			return err
		},
	}
}
