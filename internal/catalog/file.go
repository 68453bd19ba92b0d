package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/engineshed/engineshed/internal/strictyaml"
)

// The shape of a file, one model each, as it is written. docs/models.md tells people what the settings mean.
type (
	modelYAML struct {
		Name          text                    `yaml:"name"`
		Description   text                    `yaml:"description"`
		Task          text                    `yaml:"task"`
		Source        sourceYAML              `yaml:"source"`
		Memory        text                    `yaml:"memory"`
		Accelerators  []number                `yaml:"accelerators"`
		EngineVersion text                    `yaml:"engineVersion"`
		Arguments     map[string]argumentYAML `yaml:"arguments"`
		OnlyThese     toggle                  `yaml:"onlyTheseArguments"`
		Environment   map[string]text         `yaml:"environment"`
	}
	sourceYAML struct {
		HuggingFace text `yaml:"huggingface"`
		ModelScope  text `yaml:"modelscope"`
		URL         text `yaml:"url"`
		Directory   text `yaml:"directory"`
		Revision    text `yaml:"revision"`
	}
	argumentYAML struct {
		Type     text   `yaml:"type"`
		Default  text   `yaml:"default"`
		Min      number `yaml:"min"`
		Max      number `yaml:"max"`
		Choices  []text `yaml:"choices"`
		Required toggle `yaml:"required"`
	}
)

// text is a plain value as it is written, and the line it stands on; 0 when it is not there.
type text struct {
	is   string
	line int
}

func (t *text) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		return strictyaml.Complain(node, "a plain value belongs here")
	}
	*t = text{node.Value, node.Line}
	return nil
}

// number is a number and its line.
type number struct {
	is   float64
	line int
}

func (n *number) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode || node.Tag != "!!int" && node.Tag != "!!float" {
		return strictyaml.Complain(node, "a number belongs here")
	}
	n.line = node.Line
	return node.Decode(&n.is)
}

// toggle is true or false, and its line.
type toggle struct {
	is   bool
	line int
}

func (b *toggle) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode || node.Tag != "!!bool" {
		return strictyaml.Complain(node, "true or false belongs here")
	}
	b.line = node.Line
	return node.Decode(&b.is)
}

// read returns the models of a directory, one from each *.yaml file, in the order of the files' names. All complaints come
// together, each with its file and line.
func read(dir fs.FS) ([]Model, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, err
	}
	var models []Model
	var complaints []error
	for _, entry := range entries {
		name := entry.Name()
		if extension := path.Ext(name); extension != ".yaml" && extension != ".yml" || strings.HasPrefix(name, ".") || entry.IsDir() {
			continue
		}
		m, err := readFile(dir, name)
		if i := index(models, m.Name); err == nil && i >= 0 {
			err = fmt.Errorf("%s: the model %s stands in %s already", name, m.Name, models[i].Origin)
		}
		complaints = append(complaints, err)
		models = append(models, m)
	}
	if models == nil {
		return nil, errors.New("there is no *.yaml file in it: write one file for each model, or leave --catalog out")
	}
	return models, errors.Join(complaints...)
}

func readFile(dir fs.FS, name string) (Model, error) {
	content, err := fs.ReadFile(dir, name)
	if err != nil {
		return Model{}, fmt.Errorf("%s: %w", name, err)
	}
	var file modelYAML
	if err := strictyaml.Decode(name, content, &file); err != nil {
		return Model{}, err
	}
	c := &checker{file: name}
	m := c.model(file)
	return m, errors.Join(c.complaints...)
}
