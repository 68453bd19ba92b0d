package iam

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// The shape of a *.yaml file of a policy directory, as it is written.
type (
	accountsYAML struct {
		Accounts []accountYAML `yaml:"accounts"`
	}
	accountYAML struct {
		ID         text         `yaml:"id"`
		Name       text         `yaml:"name"`
		AccessKeys []keyYAML    `yaml:"accessKeys"`
		Policies   []policyYAML `yaml:"policies"`
		Users      []userYAML   `yaml:"users"`
	}
	userYAML struct {
		Name        text            `yaml:"name"`
		DisplayName text            `yaml:"displayName"`
		AccessKeys  []keyYAML       `yaml:"accessKeys"`
		Policies    []policyRefYAML `yaml:"policies"`
	}
	keyYAML struct {
		ID         text `yaml:"id"`
		Secret     text `yaml:"secret"`
		SecretFile text `yaml:"secretFile"`
		SecretEnv  text `yaml:"secretEnv"`
		Status     text `yaml:"status"`
	}
	policyYAML struct {
		Name        text `yaml:"name"`
		Description text `yaml:"description"`
		Document    text `yaml:"document"`
	}
	policyRefYAML struct {
		Type text `yaml:"type"`
		Name text `yaml:"name"`
	}
)

// text is a plain value as it is written (an id of digits stays what it is) and the line it stands on.
type text struct {
	value string
	line  int
}

func (t *text) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: a plain value belongs here", node.Line)}}
	}
	*t = text{node.Value, node.Line}
	return nil
}

// decode reads one *.yaml file. Every complaint names the file and the line.
func decode(name string, content []byte) ([]accountYAML, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var file accountsYAML
	err := decoder.Decode(&file)
	switch {
	case errors.Is(err, io.EOF) || err == nil && file.Accounts == nil:
		return nil, fmt.Errorf("%s:1: there are no accounts in it; write accounts: [] if that is meant", name)
	case err != nil:
		return file.Accounts, readable(name, err) // what could be read is checked too
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: something follows the first YAML document; write one list of accounts", name)
	}
	return file.Accounts, nil
}

var (
	lineMessage  = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`^field (.*) not found in type .*$`)
	wrongShape   = regexp.MustCompile("^cannot unmarshal .*$") // quotes the value, which may be a secret
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
