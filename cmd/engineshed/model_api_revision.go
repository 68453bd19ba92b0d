package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/apig"
)

func listRevisions(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := c.apiID(ctx, args[0])
	if err != nil {
		return err
	}
	api, err := c.GetHttpApi(ctx, id)
	if err != nil {
		return err
	}
	size := apig.PageSizeParam(100)
	page, err := c.ListHttpApiRevisions(ctx, id, apig.ListHttpApiRevisionsParams{PageSize: &size})
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), page.Items)
	}
	rows := [][]string{{"REVISION", "DEPLOYED", "SERVED BY", "AGE", "AUTHOR", "ID"}}
	for _, r := range page.Items {
		deployed := "-"
		if r.Deployed {
			deployed = "yes"
		}
		rows = append(rows, []string{
			strconv.FormatInt(r.Revision, 10), deployed, servers(api, r.Revision),
			short(time.Since(time.UnixMilli(r.CreateTimestamp))), r.Author, r.RevisionId,
		})
	}
	return printTable(cmd.OutOrStdout(), rows)
}

// servers says how many of the gateway processes serve the revision.
func servers(api *apig.HttpApiApiInfo, revision int64) string {
	if api.Serving == nil {
		return "-"
	}
	count := 0
	for _, s := range *api.Serving {
		if s.Revision != nil && *s.Revision == revision {
			count++
		}
	}
	return fmt.Sprintf("%d of %d", count, len(*api.Serving))
}

func rollbackModelAPI(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	number, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil || number < 1 {
		return fmt.Errorf("%q is not the number of a revision; `engineshed model-api revisions %s` lists them", args[1], args[0])
	}
	id, err := c.apiID(ctx, args[0])
	if err != nil {
		return err
	}
	if _, err := c.RollbackHttpApi(ctx, id, number); err != nil {
		return err
	}
	return c.showChanged(ctx, cmd, id)
}

func (p *program) diffModelAPI() *cobra.Command {
	var from, to int64
	cmd := &cobra.Command{
		Use: "diff NAME", Short: "Show what changes from one revision of a Model API to another", Args: cobra.ExactArgs(1),
		Long: `Shows what changes from one revision of a Model API to another. Without --from it is the deployed one, without --to the
Model API as it is configured now: what deploying it would change.`,
	}
	cmd.Flags().Int64Var(&from, "from", 0, "number of a revision (default: the deployed one)")
	cmd.Flags().Int64Var(&to, "to", 0, "number of a revision (default: as it is configured now)")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		id, err := c.apiID(ctx, args[0])
		if err != nil {
			return err
		}
		difference, err := c.DiffHttpApiRevision(ctx, id, apig.DiffHttpApiRevisionParams{From: unlessNone(from), To: unlessNone(to)})
		if err != nil {
			return err
		}
		if c.output == "json" {
			return printJSON(cmd.OutOrStdout(), difference)
		}
		return printChanges(cmd.OutOrStdout(), difference.Changes)
	})
}

// unlessNone leaves out what was not said.
func unlessNone[T comparable](value T) *T {
	var none T
	if value == none {
		return nil
	}
	return &value
}

// printChanges prints one line for each change: ~ changed, + new, - gone.
func printChanges(out io.Writer, changes []apig.HttpApiChange) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(out, "no differences")
		return err
	}
	for _, change := range changes {
		var err error
		switch {
		case change.Before == nil:
			_, err = fmt.Fprintf(out, "+ %s: %s\n", change.Path, compact(change.After))
		case change.After == nil:
			_, err = fmt.Fprintf(out, "- %s: %s\n", change.Path, compact(change.Before))
		default:
			_, err = fmt.Fprintf(out, "~ %s: %s → %s\n", change.Path, compact(change.Before), compact(change.After))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compact is a value on one line.
func compact(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
