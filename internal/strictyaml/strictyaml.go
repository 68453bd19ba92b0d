// Package strictyaml reads YAML files that people write: what is unknown, double or misplaced is a complaint with its
// file and line.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// ErrEmpty says that a file holds nothing.
var ErrEmpty = errors.New("there is nothing in it")

// Decode reads the one YAML document of the file called name into a struct. Every complaint begins with the name and the
// line, and what could be read is in the struct all the same. It is ErrEmpty for a file without a document.
func Decode(name string, content []byte, into any) error {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	err := decoder.Decode(into)
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s:1: %w", name, ErrEmpty)
	case err != nil:
		return readable(name, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: something follows the first YAML document; write one document", name)
	}
	return nil
}

// Complain is what an UnmarshalYAML returns so that Decode says where the value stands.
func Complain(node *yaml.Node, format string, args ...any) error {
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %s", node.Line, fmt.Sprintf(format, args...))}}
}

var (
	lineMessage  = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`^field (.*) not found in type .*$`)
	wrongShape   = regexp.MustCompile("(?s)^cannot unmarshal .*$") // quotes the value, which may be a secret
)

// readable puts the decoder's complaints in words of the file rather than of Go types.
func readable(name string, err error) error {
	shape, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return errors.New(inWords(name, err.Error()))
	}
	complaints := make([]error, len(shape.Errors))
	for i, message := range shape.Errors {
		complaints[i] = errors.New(inWords(name, message))
	}
	return errors.Join(complaints...)
}

func inWords(name, message string) string {
	parts := lineMessage.FindStringSubmatch(message)
	if parts == nil {
		return name + ": " + message
	}
	why := unknownField.ReplaceAllString(parts[2], "there is no setting $1")
	why = wrongShape.ReplaceAllString(why, "a list or a mapping belongs here and something else stands there")
	return name + ":" + parts[1] + ": " + why
}
