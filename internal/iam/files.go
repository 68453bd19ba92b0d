package iam

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/policies"
)

// Files is the checked content of a policy directory. The zero Files has no accounts.
type Files struct{ accounts []account }

type (
	account struct {
		id, name string
		keys     []key
		policies []policy

		users, groups, roles []principal
	}
	// principal is a user, a group or a role.
	principal struct {
		name     string
		texts    []string // what its row holds beside the name, in the order of the columns of its kind
		keys     []key    // of a user
		users    []string // in a group
		policies []policyRef
		place    string
	}
	key struct {
		id     string
		secret secret.Secret
		status string
		place  string
	}
	policy struct {
		name, description, document string
		place                       string
	}
	policyRef struct {
		system        bool
		name          string
		resourceGroup string // its name or id; "": the whole account
		place         string
	}
)

// LoadDir reads a policy directory: every *.yaml in it, and the policy documents and secret files that they name by
// paths relative to it. policies/examples shows the format. getenv answers for secretEnv. All complaints come together,
// each with its file and line; a directory without any *.yaml is refused, since applying it would remove everything.
func LoadDir(dir fs.FS, getenv func(string) string) (Files, error) {
	names, err := yamlFiles(dir)
	if err != nil {
		return Files{}, err
	}
	system, err := systemPolicies(policies.System())
	if err != nil {
		return Files{}, err
	}
	c := &checker{dir: dir, getenv: getenv, accounts: seen{}, keys: seen{}, system: map[string]bool{}}
	for _, p := range system {
		c.system[p.name] = true
	}
	var files Files
	for _, name := range names {
		files.accounts = append(files.accounts, c.file(name)...)
	}
	if err := errors.Join(c.complaints...); err != nil {
		return Files{}, err
	}
	return files, nil
}

func yamlFiles(dir fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("read the policy directory: %w", err)
	}
	var names []string
	for _, entry := range entries {
		extension := path.Ext(entry.Name())
		if (extension == ".yaml" || extension == ".yml") && !strings.HasPrefix(entry.Name(), ".") && !entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	if names == nil {
		return nil, errors.New("there is no *.yaml file in the policy directory; a file with accounts: [] removes everything that came from files")
	}
	return names, nil
}

// systemPolicies reads the policies of every account: one document per file, named like the policy.
func systemPolicies(dir fs.FS) ([]policy, error) {
	names, err := fs.Glob(dir, "*.json")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []policy
	for _, name := range names {
		document, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		if _, err := ram.Parse(string(document)); err != nil {
			return nil, fmt.Errorf("system policy %s: %w", name, err)
		}
		all = append(all, policy{name: strings.TrimSuffix(name, ".json"), document: string(document)})
	}
	return all, nil
}
