// Package config fills flags from the environment: every flag --x-y is ENGINESHED_X_Y, and the flag wins.
package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Variable is the environment variable of a flag.
func Variable(flag string) string {
	return "ENGINESHED_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// FromEnv sets every flag that was not given on the command line from its variable, and returns all complaints
// together. Call it after the flags were parsed.
func FromEnv(flags *pflag.FlagSet, getenv func(string) string) error {
	var complaints []error
	flags.VisitAll(func(f *pflag.Flag) {
		value := getenv(Variable(f.Name))
		if f.Changed || value == "" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			complaints = append(complaints, fmt.Errorf("%s: %w", Variable(f.Name), err))
		}
	})
	return errors.Join(complaints...)
}
