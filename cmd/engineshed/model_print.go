package main

import (
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/modelfile"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

// modelView is a model as programs read it.
type modelView struct {
	Name          string            `json:"name,omitempty"` // "" for files of a model that the catalogue does not have
	Description   string            `json:"description,omitempty"`
	Task          catalog.Task      `json:"task,omitempty"`
	Source        hub.Source        `json:"source"`
	Pinned        bool              `json:"pinned"` // the revision is a commit
	MemoryBytes   int64             `json:"memoryBytes,omitempty"`
	Accelerators  []int             `json:"accelerators,omitempty"`
	EngineVersion string            `json:"engineVersion,omitempty"`
	Environment   map[string]string `json:"environment,omitempty"`
	Origin        string            `json:"origin,omitempty"` // the file that it stands in; "" for one that comes with the program
	Arguments     []argumentView    `json:"arguments,omitempty"`
	Files         *filesView        `json:"files,omitempty"` // on this host
}

type argumentView struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Limit    string `json:"limit"`
	Default  string `json:"default,omitempty"`
	Required bool   `json:"required,omitempty"`
}

type filesView struct {
	Dir     string `json:"dir,omitempty"` // "": not whole yet
	Commit  string `json:"commit,omitempty"`
	Bytes   int64  `json:"bytes"`   // of all; -1: not known
	Fetched int64  `json:"fetched"` // of them, on this host
}

func viewOf(m catalog.Model) modelView {
	return modelView{
		Name: m.Name, Description: m.Description, Task: m.Task, Source: m.Source, Pinned: m.Source.Pinned(), MemoryBytes: m.Memory,
		Accelerators: m.Accelerators, EngineVersion: m.EngineVersion, Environment: m.Environment, Origin: m.Origin,
	}
}

// stored are the models on this host; none without --models.
func (v *modelVerb) stored() ([]modelfile.Stored, error) {
	if v.models == "" {
		return nil, nil
	}
	store, err := v.store(nil)
	if err != nil {
		return nil, err
	}
	return store.List()
}

// views are the models of the catalogue, then those that are only on this host.
func (v *modelVerb) views(stored []modelfile.Stored) (all []modelView) {
	shown := map[hub.Source]bool{}
	for _, m := range v.known.Models() {
		view := viewOf(m)
		view.Files = filesOf(m.Source, stored)
		shown[m.Source] = true
		all = append(all, view)
	}
	for _, s := range stored {
		if !shown[s.Source] {
			all = append(all, modelView{Source: s.Source, Pinned: s.Source.Pinned(), Files: filesOf(s.Source, stored)})
		}
	}
	return all
}

func filesOf(source hub.Source, stored []modelfile.Stored) *filesView {
	if source.Kind == hub.Directory {
		if supply := modelfile.LookAtDirectory(source); supply.Dir != "" {
			return &filesView{Dir: supply.Dir, Bytes: -1}
		}
		return nil
	}
	i := slices.IndexFunc(stored, func(s modelfile.Stored) bool { return s.Source == source })
	if i < 0 {
		return nil
	}
	return &filesView{Dir: stored[i].Dir, Commit: stored[i].Commit, Bytes: stored[i].Bytes(), Fetched: stored[i].Fetched}
}

func (f *filesView) String() string {
	switch {
	case f == nil:
		return "no"
	case f.Dir != "" && f.Bytes < 0:
		return "yes"
	case f.Dir != "":
		return modelfile.Size(f.Bytes)
	case f.Bytes < 0:
		return modelfile.Size(f.Fetched) + " so far"
	}
	return modelfile.Size(f.Fetched) + " of " + modelfile.Size(f.Bytes)
}

func (v *modelVerb) printModels(out io.Writer, stored []modelfile.Stored) error {
	views := v.views(stored)
	if v.output == "json" {
		return printJSON(out, views)
	}
	rows := [][]string{{"MODEL", "TASK", "GPU MEMORY", "SOURCE", "ON THIS HOST"}}
	for _, m := range views {
		here := m.Files.String()
		if v.models == "" && m.Source.Kind != hub.Directory {
			here = "" // not asked
		}
		rows = append(rows, []string{or(m.Name, "-"), or(string(m.Task), "-"), memory(m.MemoryBytes), string(m.Source.Kind) + " " + m.Source.String(), here})
	}
	return printTable(out, rows)
}

func memory(bytes int64) string {
	if bytes == 0 {
		return "not known"
	}
	return modelfile.Size(bytes)
}

func (m modelView) print(out io.Writer, arguments vllm.Set) error {
	pinned := ""
	if !m.Pinned && m.Source.Revision != "" {
		pinned = " (a branch or tag: it can come to mean other files)"
	}
	rows := [][]string{
		{"Model", m.Name},
		{"Description", m.Description},
		{"Task", string(m.Task)},
		{"Source", string(m.Source.Kind) + " " + m.Source.String() + pinned},
		{"GPU memory", memory(m.MemoryBytes)},
		{"Accelerators", numbers(m.Accelerators)},
		{"vLLM", m.EngineVersion},
		{"Written in", or(m.Origin, "the program")},
		{"On this host", m.Files.String()},
	}
	if m.Files != nil {
		rows = append(rows, []string{"Directory", m.Files.Dir}, []string{"Commit", m.Files.Commit})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Environment)) {
		rows = append(rows, []string{"Environment", name + "=" + m.Environment[name]})
	}
	for _, a := range arguments {
		text := a.Limit()
		switch {
		case a.Default != "":
			text += "; default " + a.Default
		case a.Required:
			text += "; required"
		}
		rows = append(rows, []string{"--" + a.Name, text})
	}
	return printTable(out, slices.DeleteFunc(rows, func(row []string) bool { return row[1] == "" }))
}

func numbers(all []int) string {
	words := make([]string, len(all))
	for i, n := range all {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ", ")
}
