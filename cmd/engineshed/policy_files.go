package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/iam"
)

func (p *program) diffPolicies() *cobra.Command {
	cmd := &cobra.Command{
		Use: "diff DIR", Short: "Show how the database differs from a directory of policy files", Args: cobra.ExactArgs(1),
		Long: `Shows what "engineshed policy apply DIR" would create (+), change (~) and delete (-), and writes nothing. It works beside the
control plane, with its database and master key; secrets are compared and never shown.

It ends as diff does: with 0 when nothing differs, with 1 when something does, and with 2 when there is trouble, such as a
mistake in a file.`,
		Example:     "  engineshed policy diff my-policies",
		Annotations: map[string]string{asDiff: "yes"},
	}
	return p.operatorCommand(cmd, func(ctx context.Context, b *beside) error {
		store, files, err := p.policyFiles(ctx, b, cmd.Flags().Arg(0))
		if err != nil {
			return err
		}
		differences, err := store.Diff(ctx, files)
		if err != nil {
			return refusedFiles(cmd.Flags().Arg(0), err)
		}
		if err := b.printDifferences(cmd.OutOrStdout(), differences, "to create", "to change", "to delete"); err != nil {
			return err
		}
		if len(differences) > 0 {
			return errDiffers
		}
		return nil
	})
}

func (p *program) applyPolicies() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "apply DIR", Short: "Make the database equal to a directory of policy files, all of it or nothing", Args: cobra.ExactArgs(1),
		Long: `Makes all that came from policy files equal to the files of DIR, in one transaction: it is in force at the next call, or, where
anything is refused, nothing is changed. What was made through the API stays as it is.

A control plane that was started with --policy-dir applies that directory when it starts and at SIGHUP: give it the same one,
or none.`,
		Example: "  engineshed policy apply my-policies --dry-run\n  engineshed policy apply my-policies",
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be done, and do nothing")
	return p.operatorCommand(cmd, func(ctx context.Context, b *beside) error {
		store, files, err := p.policyFiles(ctx, b, cmd.Flags().Arg(0))
		if err != nil {
			return err
		}
		apply, words := store.Apply, [3]string{"created", "changed", "deleted"}
		if dryRun {
			apply, words = store.Diff, [3]string{"to create", "to change", "to delete"}
		}
		differences, err := apply(ctx, files)
		if err != nil {
			return refusedFiles(cmd.Flags().Arg(0), err)
		}
		return b.printDifferences(cmd.OutOrStdout(), differences, words[0], words[1], words[2])
	})
}

// policyFiles reads a directory of policy files, and opens what they are applied to.
func (p *program) policyFiles(ctx context.Context, b *beside, dir string) (*iam.Store, iam.Files, error) {
	files, err := iam.LoadDir(os.DirFS(dir), p.getenv)
	if err != nil {
		return nil, files, refusedFiles(dir, err)
	}
	master, err := b.master()
	if err != nil {
		return nil, files, err
	}
	store := iam.New(b.db, master)
	if err := store.CheckMasterKey(ctx); err != nil {
		return nil, files, fmt.Errorf("--master-key-file %s: %w", b.masterKeyFile, err)
	}
	return store, files, nil
}

func refusedFiles(dir string, err error) error {
	return fmt.Errorf("the policy files of %s are refused:\n%w", dir, err)
}

// printDifferences prints what differs, and how much of it is created, changed and deleted, in the words given.
func (b *beside) printDifferences(out io.Writer, differences []iam.Difference, created, changed, deleted string) error {
	if b.output == "json" {
		return printJSON(out, map[string]any{"Differences": append([]iam.Difference{}, differences...)})
	}
	if len(differences) == 0 {
		_, err := fmt.Fprintln(out, "No differences.")
		return err
	}
	count, account := map[string]int{}, "none"
	for _, d := range differences {
		count[d.Change]++
		if d.AccountID != account {
			account = d.AccountID
			fmt.Fprintln(out, or(account, "every account (system policies)"))
		}
		printDifference(out, d)
	}
	_, err := fmt.Fprintf(out, "%d %s, %d %s, %d %s.\n", count[iam.Created], created, count[iam.Changed], changed, count[iam.Deleted], deleted)
	return err
}
