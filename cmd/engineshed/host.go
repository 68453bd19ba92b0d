package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/modelservice"
)

func (p *program) host() *cobra.Command {
	cmd := &cobra.Command{
		Use: "host", Short: "See the machines that engines run on, empty them and forget them",
		Long: `Hosts belong to the installation and to no account, so these verbs ask the database and not the API: DATABASE_URL is the
URL of the role engineshed_control, as the control plane has it. Beside engineshed up it is found in the data directory.`,
	}
	cmd.PersistentFlags().String("data-dir", "", "data directory of engineshed up, which says where the database is unless DATABASE_URL does")
	cmd.AddCommand(p.listHosts(), p.drainHost(), p.hostVerb("undrain HOST", "Take a drained host back into use", undrainHost),
		p.hostVerb("remove HOST", "Forget a host that is gone for good, with its AI nodes", removeHost))
	return cmd
}

// withHosts gives do the hosts of the control plane's database.
func (p *program) withHosts(cmd *cobra.Command, do func(context.Context, *modelservice.Hosts) error) error {
	named, err := cmd.Flags().GetString("data-dir")
	if err != nil {
		return err
	}
	dataDir, err := dataDirOf(named, p.getenv)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := openBeside(ctx, dataDir, p.getenv)
	if err != nil {
		return err
	}
	defer db.Close()
	return do(ctx, modelservice.NewHosts(db))
}

func (p *program) hostVerb(use, short string, do func(context.Context, *program, *modelservice.Hosts, string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return p.withHosts(cmd, func(ctx context.Context, hosts *modelservice.Hosts) error { return do(ctx, p, hosts, args[0]) })
	}}
}

func (p *program) listHosts() *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "list", Short: "List the hosts", Args: cobra.NoArgs}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "table" && output != "json" {
			return fmt.Errorf("--output %s: use table or json", output)
		}
		return p.withHosts(cmd, func(ctx context.Context, hosts *modelservice.Hosts) error {
			found, err := hosts.List(ctx)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(p.stdout, found)
			}
			return p.printHosts(found)
		})
	}
	return cmd
}

func (p *program) printHosts(hosts []modelservice.HostState) error {
	rows := [][]string{{"HOST", "STATE", "ENGINES LISTEN ON", "ACCELERATORS", "AI NODES", "BOUND", "REPLICAS"}}
	for _, h := range hosts {
		state := "alive"
		if !h.Alive {
			state = "silent for " + short(h.Silent)
		}
		if h.Draining {
			state += ", drained"
		}
		rows = append(rows, []string{
			h.Name, state, h.EngineAddr, fmt.Sprint(h.Accelerators), fmt.Sprint(h.AINodes), fmt.Sprint(h.Bound), fmt.Sprint(h.Replicas),
		})
	}
	return printTable(p.stdout, rows)
}

func undrainHost(ctx context.Context, _ *program, hosts *modelservice.Hosts, name string) error {
	return hosts.Drain(ctx, name, false)
}

func removeHost(ctx context.Context, p *program, hosts *modelservice.Hosts, name string) error {
	if err := hosts.Remove(ctx, name); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s is forgotten.\n", name)
	return nil
}

func (p *program) drainHost() *cobra.Command {
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "drain HOST", Short: "Move everything off a host, without interrupting anything, and place nothing new on it", Args: cobra.ExactArgs(1),
		Long: `Successors start on free AI nodes that the model services have on other hosts, and answer before anything on this host
ends. What has no such AI node stays, and is named.`,
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return at once")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Minute, "how long to wait")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.withHosts(cmd, func(ctx context.Context, hosts *modelservice.Hosts) error {
			if err := hosts.Drain(ctx, args[0], true); err != nil || noWait {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return p.awaitEmpty(ctx, hosts, args[0])
		})
	}
	return cmd
}

// awaitEmpty waits until nothing is on the host, or nothing but what cannot move.
func (p *program) awaitEmpty(ctx context.Context, hosts *modelservice.Hosts, name string) error {
	line := newProgress(p.stdout)
	defer line.end()
	for {
		left, err := hosts.Remaining(ctx, name)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s is still being emptied; `engineshed host list` shows how far it is", name)
		case err != nil:
			return err
		case len(left) == 0:
			line.show(name, "empty", "")
			return nil
		}
		stay := staying(left)
		if len(stay) == len(left) {
			return fmt.Errorf("what is left on %s stays until its model services have AI nodes on other hosts:\n%s", name, strings.Join(stay, "\n"))
		}
		line.show(name, fmt.Sprintf("%d replicas are on it", len(left)), "")
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// staying says of those that cannot move what to do.
func staying(left []modelservice.Remaining) (says []string) {
	for _, r := range left {
		if r.Missing > 0 {
			says = append(says, fmt.Sprintf("  replica %d of %s on %s: add %d AI nodes (engineshed ai-node add --db-instance-id %s) "+
				"and name them beside the others (engineshed model-service modify %s --ai-node …)",
				r.Ordinal, r.ServiceID, r.NodeName, r.Missing, r.DBInstanceID, r.ServiceID))
		}
	}
	return says
}
