package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk"
)

// show prints value for programs and tables for people, those without rows left out. The first row of a table is its
// heading.
func (c *client) show(cmd *cobra.Command, value any, tables ...[][]string) error {
	out := cmd.OutOrStdout()
	if c.output == "json" {
		return printJSON(out, value)
	}
	for n, table := range tables {
		if n > 0 && len(table) < 2 {
			continue
		}
		if n > 0 {
			fmt.Fprintln(out)
		}
		if err := printTable(out, table); err != nil {
			return err
		}
	}
	return nil
}

// done says what was done: to people in a sentence, to programs as the API answered.
func (c *client) done(cmd *cobra.Command, answer any, format string, args ...any) error {
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
	return err
}

// table is a heading and a row for each item.
func table[T any](items []T, row func(T) []string, heading ...string) [][]string {
	rows := [][]string{heading}
	for _, item := range items {
		rows = append(rows, row(item))
	}
	return rows
}

// allPages reads a list to its end. page reads what follows a marker, which is nil at the beginning.
func allPages[T any](page func(marker *string) (items []T, next string, more bool, err error)) ([]T, error) {
	all := []T{} // never nil, which would be null to programs
	for marker, more := (*string)(nil), true; more; {
		var items []T
		var next string
		var err error
		if items, next, more, err = page(marker); err != nil {
			return nil, err
		}
		all, marker = append(all, items...), &next
	}
	return all, nil
}

// changes returns the texts that were given for flags, by name, and refuses when none was: there is nothing to change.
func changes(cmd *cobra.Command, names ...string) (map[string]*string, error) {
	given := map[string]*string{}
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			value, err := cmd.Flags().GetString(name)
			if err != nil {
				return nil, err
			}
			given[name] = &value
		}
	}
	if len(given) == 0 {
		return nil, fmt.Errorf("say what to change: --%s", strings.Join(names, ", --"))
	}
	return given, nil
}

// refusedWith reports whether the API has refused with a code that is, or begins with, the one given.
func refusedWith(err error, code string) bool {
	refused, ok := errors.AsType[*sdk.Error](err)
	return ok && (refused.Code == code || strings.HasPrefix(refused.Code, code+"."))
}

// first adds to a refusal the commands that take away what is in the way.
func first(refusal error, commands []string) error {
	if len(commands) == 0 {
		return refusal
	}
	return fmt.Errorf("%w\nFirst:\n  engineshed %s", refusal, strings.Join(commands, "\n  engineshed "))
}
