package iam

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/engineshed/engineshed/internal/strictyaml"
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
		Groups     []groupYAML  `yaml:"groups"`
		Roles      []roleYAML   `yaml:"roles"`
	}
	userYAML struct {
		Name        text            `yaml:"name"`
		DisplayName text            `yaml:"displayName"`
		AccessKeys  []keyYAML       `yaml:"accessKeys"`
		Policies    []policyRefYAML `yaml:"policies"`
	}
	groupYAML struct {
		Name     text            `yaml:"name"`
		Comments text            `yaml:"comments"`
		Users    []text          `yaml:"users"`
		Policies []policyRefYAML `yaml:"policies"`
	}
	roleYAML struct {
		Name              text            `yaml:"name"`
		Description       text            `yaml:"description"`
		TrustPolicy       text            `yaml:"trustPolicy"`
		MaxSessionSeconds text            `yaml:"maxSessionSeconds"`
		Policies          []policyRefYAML `yaml:"policies"`
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
		Type          text `yaml:"type"`
		Name          text `yaml:"name"`
		ResourceGroup text `yaml:"resourceGroup"`
	}
)

// text is a plain value as it is written (an id of digits stays what it is) and the line it stands on.
type text struct {
	value string
	line  int
}

func (t *text) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		return strictyaml.Complain(node, "a plain value belongs here")
	}
	*t = text{node.Value, node.Line}
	return nil
}

// decode reads one *.yaml file. Every complaint names the file and the line.
func decode(name string, content []byte) ([]accountYAML, error) {
	var file accountsYAML
	err := strictyaml.Decode(name, content, &file)
	if errors.Is(err, strictyaml.ErrEmpty) || err == nil && file.Accounts == nil {
		return nil, fmt.Errorf("%s:1: there are no accounts in it; write accounts: [] if that is meant", name)
	}
	return file.Accounts, err // what could be read is checked too
}
