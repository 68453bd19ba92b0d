package process

import (
	"errors"
	"fmt"

	"github.com/mattn/go-shellwords"
)

// SplitCommand splits a command line into words as a shell would, quotes and all, but runs and expands nothing.
func SplitCommand(line string) ([]string, error) {
	parser := shellwords.NewParser() // expands neither variables nor backticks unless told to
	words, err := parser.Parse(line)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the command %q: %w", line, err)
	case parser.Position >= 0: // the parser stops at an operator and says nothing
		return nil, fmt.Errorf("the command %q holds a shell operator: no shell runs it, so quote the operator or name a script", line)
	case len(words) == 0:
		return nil, errors.New("the command is empty")
	}
	return words, nil
}
