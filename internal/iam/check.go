package iam

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/engineshed/engineshed/internal/access/ram"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/secret"
)

// What RAM allows, and what our tables hold.
const (
	maxKeys           = 2 // of a user, and of an account itself
	maxSystemPolicies = 20
	maxCustomPolicies = 10
	maxDescription    = 1024
	maxDisplayName    = 128
	maxComments       = 128 // of a group
	maxGroupsOfUser   = 10
	minSessionSeconds = 3600
	maxSessionSeconds = 43200
)

var (
	accountIDPattern  = regexp.MustCompile(`^[0-9]{16}$`)
	userNamePattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	groupNamePattern  = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
	roleNamePattern   = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)
	policyNamePattern = regexp.MustCompile(`^[A-Za-z0-9-]{1,128}$`)
	secretPattern     = regexp.MustCompile(`^[!-~]{16,128}$`)
)

const (
	accountIDRule  = "must be 16 digits"
	userNameRule   = "must be 1 to 64 letters, digits, dots, underscores and hyphens"
	groupNameRule  = "must be 1 to 64 letters, digits and hyphens"
	roleNameRule   = "must be 1 to 64 letters, digits, dots and hyphens"
	policyNameRule = "must be 1 to 128 letters, digits and hyphens"
	keyIDRule      = "must be 8 to 128 letters and digits"
	secretRule     = "must be 16 to 128 visible ASCII characters" //nolint:gosec // a rule, not a secret
)

// seen remembers where each name was used, to refuse the second use.
type seen map[string]string

// checker turns what the files say into Files and collects what is wrong with them.
type checker struct {
	dir        fs.FS
	getenv     func(string) string
	system     map[string]bool // the names of the system policies
	accounts   seen
	keys       seen
	name       string // of the file being checked
	exposed    bool   // others may read that file
	complaints []error
}

func (c *checker) complain(line int, format string, args ...any) {
	c.complaints = append(c.complaints, fmt.Errorf("%s: %w", c.place(line), fmt.Errorf(format, args...)))
}

func (c *checker) place(line int) string { return c.name + ":" + strconv.Itoa(line) }

func (c *checker) file(name string) []account {
	c.name = name
	content, mode, err := c.read(name)
	if err != nil {
		c.complaints = append(c.complaints, err)
		return nil
	}
	c.exposed = mode&0o077 != 0
	written, err := decode(name, content)
	if err != nil {
		c.complaints = append(c.complaints, err)
	}
	accounts := make([]account, 0, len(written))
	for _, a := range written {
		accounts = append(accounts, c.account(a))
	}
	return accounts
}

func (c *checker) account(a accountYAML) account {
	c.required(a.ID, a.Name.line, "id of the account", accountIDPattern, accountIDRule)
	c.once(c.accounts, a.ID, "account "+a.ID.value)
	c.present(a.Name, a.ID.line, "name of the account")
	c.atMost(a.Name, maxDisplayName, "name of the account")
	checked := account{id: a.ID.value, name: a.Name.value, keys: c.accessKeys(a.AccessKeys, a.ID.line, "the account")}
	policies, users, groups, roles := seen{}, seen{}, seen{}, seen{}
	for _, p := range a.Policies {
		checked.policies = append(checked.policies, c.policy(p, a.ID.line, policies))
	}
	for _, u := range a.Users {
		checked.users = append(checked.users, c.user(u, a.ID.line, users, policies))
	}
	for _, g := range a.Groups {
		checked.groups = append(checked.groups, c.group(g, a.ID.line, groups, users, policies))
	}
	for _, r := range a.Roles {
		checked.roles = append(checked.roles, c.role(r, a.ID.line, roles, policies))
	}
	c.memberships(checked.groups)
	return checked
}

func (c *checker) policy(p policyYAML, line int, names seen) policy {
	c.required(p.Name, max(line, p.Document.line), "name of a policy", policyNamePattern, policyNameRule)
	c.once(names, p.Name, "policy "+p.Name.value)
	c.atMost(p.Description, maxDescription, "description")
	checked := policy{name: p.Name.value, description: p.Description.value, place: c.place(p.Name.line)}
	checked.document = c.document(p.Document, max(line, p.Name.line), "document of a policy", func(text string) error {
		_, err := ram.Parse(text)
		return err
	})
	return checked
}

// document reads the document that a file names, and checks it with parse.
func (c *checker) document(path text, line int, what string, parse func(string) error) string {
	if !c.present(path, line, what) {
		return ""
	}
	content, _, err := c.read(path.value)
	if err != nil {
		c.complain(path.line, "%w", err)
		return ""
	}
	if err := parse(string(content)); err != nil {
		c.complain(path.line, "%s: %s", path.value, message(err))
	}
	return string(content)
}

func (c *checker) user(u userYAML, line int, names, custom seen) principal {
	c.required(u.Name, max(line, u.DisplayName.line), "name of a user", userNamePattern, userNameRule)
	c.once(names, u.Name, "user "+u.Name.value)
	c.atMost(u.DisplayName, maxDisplayName, "displayName")
	who := "user " + u.Name.value
	return principal{
		name: u.Name.value, texts: []string{u.DisplayName.value}, place: c.place(u.Name.line),
		keys:     c.accessKeys(u.AccessKeys, u.Name.line, who),
		policies: c.policyRefs(u.Policies, u.Name.line, who, custom),
	}
}

func (c *checker) group(g groupYAML, line int, names, users, custom seen) principal {
	c.required(g.Name, max(line, g.Comments.line), "name of a group", groupNamePattern, groupNameRule)
	c.once(names, g.Name, "group "+g.Name.value)
	c.atMost(g.Comments, maxComments, "comments")
	who := "group " + g.Name.value
	checked := principal{
		name: g.Name.value, texts: []string{g.Comments.value}, place: c.place(g.Name.line),
		policies: c.policyRefs(g.Policies, g.Name.line, who, custom),
	}
	members := seen{}
	for _, user := range g.Users {
		if _, declared := users[user.value]; !declared {
			c.complain(user.line, "there is no user %q under users of this account", user.value)
		}
		c.once(members, user, "user "+user.value+" of "+who)
		checked.users = append(checked.users, user.value)
	}
	return checked
}

// memberships refuses a user who is in more groups than users may be.
func (c *checker) memberships(groups []principal) {
	count := map[string]int{}
	for _, g := range groups {
		for _, user := range g.users {
			if count[user]++; count[user] == maxGroupsOfUser+1 {
				c.complaints = append(c.complaints, fmt.Errorf("%s: the user %s is in more than %d groups", g.place, user, maxGroupsOfUser))
			}
		}
	}
}

func (c *checker) role(r roleYAML, line int, names, custom seen) principal {
	line = max(line, r.Description.line, r.TrustPolicy.line)
	c.required(r.Name, line, "name of a role", roleNamePattern, roleNameRule)
	c.once(names, r.Name, "role "+r.Name.value)
	c.atMost(r.Description, maxDescription, "description")
	seconds := r.MaxSessionSeconds.value
	if seconds == "" {
		seconds = strconv.Itoa(minSessionSeconds)
	}
	if n, err := strconv.Atoi(seconds); err != nil || n < minSessionSeconds || n > maxSessionSeconds || seconds != strconv.Itoa(n) {
		c.complain(r.MaxSessionSeconds.line, "maxSessionSeconds must be a number from %d to %d, not %q", minSessionSeconds, maxSessionSeconds, seconds)
	}
	trust := c.document(r.TrustPolicy, max(line, r.Name.line), "trustPolicy of a role", func(text string) error {
		_, err := ram.ParseTrust(text)
		return err
	})
	return principal{
		name: r.Name.value, texts: []string{r.Description.value, trust, seconds}, place: c.place(r.Name.line),
		policies: c.policyRefs(r.Policies, r.Name.line, "role "+r.Name.value, custom),
	}
}

func (c *checker) policyRefs(written []policyRefYAML, line int, who string, custom seen) []policyRef {
	var refs []policyRef
	attached, count := seen{}, map[policyRef]int{}
	for _, r := range written {
		at := max(line, r.Type.line, r.Name.line)
		ref := policyRef{r.Type.value == "System", r.Name.value, r.ResourceGroup.value, c.place(max(at, r.ResourceGroup.line))}
		switch _, declared := custom[r.Name.value]; {
		case r.Type.value != "System" && r.Type.value != "Custom":
			c.complain(at, "the type of an attached policy must be System or Custom")
		case ref.system && !c.system[ref.name]:
			c.complain(at, "there is no system policy %q", ref.name)
		case !ref.system && !declared:
			c.complain(at, "there is no custom policy %q under policies of this account", ref.name)
		}
		c.once(attached, text{r.Type.value + " " + r.Name.value + " " + ref.resourceGroup, at}, "policy "+r.Name.value+" of "+who)
		refs = append(refs, ref)

		kind, limit := policyRef{system: ref.system, resourceGroup: ref.resourceGroup}, maxCustomPolicies
		if ref.system {
			limit = maxSystemPolicies
		}
		if count[kind]++; count[kind] == limit+1 {
			c.complain(line, "%s has more than %d system or %d custom policies", who, maxSystemPolicies, maxCustomPolicies)
		}
	}
	return refs
}

func (c *checker) accessKeys(written []keyYAML, line int, who string) []key {
	var keys []key
	for _, k := range written {
		keys = append(keys, c.key(k, line))
	}
	if len(keys) > maxKeys {
		c.complain(line, "%s has %d access keys, at most %d are allowed", who, len(keys), maxKeys)
	}
	return keys
}

func (c *checker) key(k keyYAML, line int) key {
	line = max(line, k.ID.line)
	c.required(k.ID, line, "id of an access key", keyIDPattern, keyIDRule)
	c.once(c.keys, k.ID, "access key "+k.ID.value)
	checked := key{id: k.ID.value, status: k.Status.value, place: c.place(line)}
	switch k.Status.value {
	case "":
		checked.status = "Active"
	case "Active", "Inactive":
	default:
		c.complain(k.Status.line, "the status of an access key must be Active or Inactive")
	}
	opened, err := c.secret(k)
	if err == nil && !secretPattern.MatchString(opened) {
		err = errors.New("the secret of an access key " + secretRule)
	}
	if err != nil {
		c.complain(max(line, k.Secret.line, k.SecretFile.line, k.SecretEnv.line), "%w", err)
	}
	checked.secret = secret.New(opened)
	return checked
}

// secret reads a key's secret from the one place that the file names.
func (c *checker) secret(k keyYAML) (string, error) {
	places := 0
	for _, place := range []text{k.Secret, k.SecretFile, k.SecretEnv} {
		if place.value != "" {
			places++
		}
	}
	switch {
	case places != 1:
		return "", fmt.Errorf("access key %s needs exactly one of secretFile, secretEnv and secret", k.ID.value)
	case k.Secret.value != "" && c.exposed:
		return "", fmt.Errorf("a secret stands in a file that others may read: run chmod 600 %s, or use secretFile or secretEnv", c.name)
	case k.Secret.value != "":
		return k.Secret.value, nil
	case k.SecretEnv.value != "":
		value := c.getenv(k.SecretEnv.value)
		if value == "" {
			return "", fmt.Errorf("the environment variable %s is not set", k.SecretEnv.value)
		}
		return value, nil
	}
	content, mode, err := c.read(k.SecretFile.value)
	if err == nil && mode&0o077 != 0 {
		err = fmt.Errorf("others may read the secret in %s: run chmod 600 on it", k.SecretFile.value)
	}
	return strings.TrimRight(string(content), "\r\n"), err
}

// read returns a file of the policy directory and its permissions.
func (c *checker) read(name string) ([]byte, fs.FileMode, error) {
	if !fs.ValidPath(name) {
		return nil, 0, fmt.Errorf("%s does not lie in the policy directory: write the path from there", name)
	}
	info, err := fs.Stat(c.dir, name)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", name, err)
	}
	content, err := fs.ReadFile(c.dir, name)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", name, err)
	}
	return content, info.Mode().Perm(), nil
}

func (c *checker) present(t text, line int, what string) bool {
	if t.value == "" {
		c.complain(max(line, t.line), "the %s is missing", what)
	}
	return t.value != ""
}

func (c *checker) required(t text, line int, what string, pattern *regexp.Regexp, rule string) {
	if c.present(t, line, what) && !pattern.MatchString(t.value) {
		c.complain(t.line, "the %s %s, not %q", what, rule, t.value)
	}
}

func (c *checker) atMost(t text, limit int, what string) {
	if utf8.RuneCountInString(t.value) > limit {
		c.complain(t.line, "the %s has more than %d characters", what, limit)
	}
	if strings.ContainsRune(t.value, 0) {
		c.complain(t.line, "the %s contains a NUL character", what)
	}
}

func (c *checker) once(used seen, t text, what string) {
	if t.value == "" {
		return
	}
	if first, again := used[t.value]; again {
		c.complain(t.line, "%s is there already, at %s", what, first)
		return
	}
	used[t.value] = c.place(t.line)
}

// message is what a refusal says, without its code.
func message(err error) string {
	if f, ok := fault.From(err); ok {
		return f.Message
	}
	return err.Error()
}
