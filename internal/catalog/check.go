package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

var (
	modelName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,127}$`)
	version      = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,6}){0,3}$`)
	memory       = regexp.MustCompile(`^([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(GiB|MiB)$`)
)

const (
	maxDescription  = 256
	maxAccelerators = 64
	mib             = 1 << 20
)

// reserved are the beginnings of variables that the control plane itself sets, or by which a file could take over the
// engine's process.
var reserved = []string{"ENGINESHED_", "VLLM_API_KEY", "CUDA_VISIBLE_DEVICES", "HF_TOKEN", "PATH", "HOME", "USER", "LOGNAME", "LD_", "PYTHON", "SPT_"}

// checker turns one file into a model and collects what is wrong with it.
type checker struct {
	file       string
	complaints []error
}

func (c *checker) complain(line int, format string, args ...any) {
	c.complaints = append(c.complaints, fmt.Errorf("%s:%d: %s", c.file, max(line, 1), fmt.Sprintf(format, args...)))
}

// need complains unless the setting is there and looks right.
func (c *checker) need(setting string, t text, pattern *regexp.Regexp, what string) string {
	switch {
	case t.line == 0:
		c.complain(1, "%s is missing", setting)
	case !pattern.MatchString(t.is):
		c.complain(t.line, "%s must be %s, not %.64q", setting, what, t.is)
	}
	return t.is
}

func (c *checker) model(f modelYAML) Model {
	m := Model{
		Origin: c.file, Name: c.need("name", f.Name, modelName, "at most 128 letters, digits, dots and dashes"),
		Description: f.Description.is, Task: Task(f.Task.is), Source: c.source(f.Source), EngineVersion: f.EngineVersion.is,
	}
	if len(m.Description) > maxDescription {
		c.complain(f.Description.line, "description is longer than %d bytes", maxDescription)
	}
	switch {
	case f.Task.line == 0:
		c.complain(1, "task is missing: generate, embed or rerank")
	case !slices.Contains(tasks, m.Task):
		c.complain(f.Task.line, "task must be generate, embed or rerank, not %.64q", f.Task.is)
	}
	if f.Memory.line > 0 {
		m.Memory = c.memory(f.Memory)
	}
	if f.EngineVersion.line > 0 {
		c.need("engineVersion", f.EngineVersion, version, "a version such as 0.8.5")
	}
	m.Accelerators = c.accelerators(f.Accelerators)
	m.Arguments = c.arguments(f)
	m.Environment = c.environment(f.Environment)
	return m
}

func (c *checker) source(f sourceYAML) (found hub.Source) {
	line := 0
	for _, option := range []struct {
		kind hub.Kind
		text text
	}{{hub.HuggingFace, f.HuggingFace}, {hub.ModelScope, f.ModelScope}, {hub.URL, f.URL}, {hub.Directory, f.Directory}} {
		if option.text.line == 0 {
			continue
		}
		if line > 0 {
			c.complain(option.text.line, "source has two places; name one of huggingface, modelscope, url and directory")
			return found
		}
		found, line = hub.Source{Kind: option.kind, Name: option.text.is}, option.text.line
	}
	if line == 0 {
		c.complain(1, "source is missing: name one of huggingface, modelscope, url and directory")
		return found
	}
	found.Revision = cmp.Or(f.Revision.is, found.Kind.DefaultRevision())
	if err := found.Check(); err != nil {
		c.complain(line, "source: %s", err)
	}
	return found
}

func (c *checker) memory(t text) int64 {
	parts := memory.FindStringSubmatch(c.need("memory", t, memory, "a number of GiB or MiB such as 17 GiB"))
	if parts == nil {
		return 0
	}
	count, _ := strconv.ParseFloat(parts[1], 64) // as the pattern has it
	return int64(count * map[string]float64{"GiB": gib, "MiB": mib}[parts[2]])
}

func (c *checker) accelerators(counts []number) (all []int) {
	for _, n := range counts {
		if n.is != math.Trunc(n.is) || n.is < 1 || n.is > maxAccelerators {
			c.complain(n.line, "accelerators must be whole numbers from 1 to %d", maxAccelerators)
			return nil
		}
		all = append(all, int(n.is))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (c *checker) environment(variables map[string]text) map[string]string {
	all := make(map[string]string, len(variables))
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value := variables[name]
		switch {
		case !variableName.MatchString(name):
			c.complain(value.line, "environment.%.64s: a name is capital letters, digits and underscores", name)
		case slices.ContainsFunc(reserved, func(prefix string) bool { return strings.HasPrefix(name, prefix) }):
			c.complain(value.line, "environment.%s is set by the control plane, or could run something inside the engine", name)
		case strings.ContainsAny(value.is, "\x00\n"):
			c.complain(value.line, "environment.%s must be one line", name)
		}
		all[name] = value.is
	}
	return all
}
