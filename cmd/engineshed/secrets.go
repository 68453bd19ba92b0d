package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/controlplane"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/secret/rotation"
)

func (p *program) secrets() *cobra.Command {
	cmd := &cobra.Command{Use: "secrets", Short: "Change the key that seals secrets in the database"}
	cmd.AddCommand(p.secretsRotate())
	return cmd
}

// The steps of a rotation, in their order.
const (
	stepAdd    = "add"
	stepUse    = "use"
	stepReseal = "reseal"
	stepDrop   = "drop"
)

func (p *program) secretsRotate() *cobra.Command {
	r := &rotator{program: p}
	var step string
	cmd := &cobra.Command{
		Use: "rotate", Short: "Replace the master key, while everything runs",
		Long: `Replaces the master key: adds a new key to the key file, seals everything in the database anew with it and removes the old
one. It runs where the control plane runs, beside it; nothing is stopped, and a rotation that was interrupted goes on where
it was when it is called again. What the old key file opens afterwards are old backups of the database, so keep or destroy
it with them.

Where control planes on several hosts have copies of the file, go step by step and copy the file to every host after each
of add, use and drop:

  --step add      add a new key, which is known and not yet sealed with
  --step use      seal with the new key from now on
  --step reseal   seal anew what is sealed with the old one
  --step drop     remove the old key, when nothing is sealed with it any more`,
	}
	cmd.Flags().StringVar(&step, "step", "", "only this step: add, use, reseal or drop (default: all)")
	cmd.Flags().DurationVar(&r.grace, "grace", 35*time.Second,
		"how long calls that have begun may go on sealing with the old key; a call takes 30s at most")
	return p.operatorCommand(cmd, func(ctx context.Context, b *beside) error { return r.run(ctx, b, step) })
}

type rotator struct {
	*program
	grace time.Duration

	path   string
	db     *pgxpool.Pool
	master *secret.Box
}

// rotateLock lets one rotation run at a time.
const rotateLock = 7057

func (r *rotator) run(ctx context.Context, b *beside, step string) (err error) {
	r.path, r.db = b.masterKeyFile, b.db
	steps := map[string]func(context.Context) error{"": r.all, stepAdd: r.add, stepUse: r.use, stepReseal: r.reseal, stepDrop: r.drop}
	do, ok := steps[step]
	if !ok {
		return fmt.Errorf("--step %s: use add, use, reseal or drop, or leave it out for all of them", step)
	}
	if r.master, err = b.master(); err != nil {
		return err
	}
	conn, err := r.db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, rotateLock).Scan(&mine); err != nil {
		return err
	}
	if !mine {
		return errors.New("another rotation is running: wait until it has ended")
	}
	defer func() {
		_, unlockErr := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, rotateLock)
		err = errors.Join(err, unlockErr)
	}()
	return do(ctx)
}

func (r *rotator) all(ctx context.Context) error {
	for _, do := range []func(context.Context) error{r.add, r.use, r.reseal, r.wait, r.reseal, r.drop} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *rotator) add(context.Context) error {
	added, err := secret.AddKey(r.path)
	if err != nil {
		return fmt.Errorf("add a key to %s: %w", r.path, err)
	}
	if added {
		fmt.Fprintf(r.stdout, "added a new key to %s\n", r.path)
	} else {
		fmt.Fprintf(r.stdout, "%s holds a new key already: an earlier rotation goes on\n", r.path)
	}
	return nil
}

func (r *rotator) use(ctx context.Context) error {
	changed, err := secret.UseNewestKey(r.path)
	if err == nil {
		r.master, err = secret.Load(r.path)
	}
	if err != nil {
		return fmt.Errorf("use the new key of %s: %w", r.path, err)
	}
	if !changed {
		return nil
	}
	fmt.Fprintln(r.stdout, "secrets are sealed with the new key from now on")
	return audit.NewTrail(r.db, r.master, time.Now).NewKey(ctx)
}

func (r *rotator) reseal(ctx context.Context) error {
	rows, err := rotation.Reseal(ctx, r.db, r.master, controlplane.Sealed)
	fmt.Fprintf(r.stdout, "sealed %d rows anew\n", rows)
	return err
}

// wait lets calls end that may still seal with the old key.
func (r *rotator) wait(ctx context.Context) error {
	fmt.Fprintf(r.stdout, "waiting %s for calls that have begun\n", r.grace)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.grace):
		return nil
	}
}

func (r *rotator) drop(ctx context.Context) error {
	left, err := rotation.Count(ctx, r.db, r.master, controlplane.Sealed)
	if err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%d rows are sealed with the old key: run the step reseal, and use first where control planes have not got the new file", left)
	}
	dropped, err := secret.DropOtherKeys(r.path)
	if err != nil {
		return fmt.Errorf("remove the old key from %s: %w", r.path, err)
	}
	if dropped {
		fmt.Fprintln(r.stdout, "removed the old key")
	}
	return nil
}
