// Package catalog holds the models that can be served: those that come with the program, and an operator's own.
package catalog

import (
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

// ErrNotFound refuses a model that is not in the catalogue.
var ErrNotFound = fault.New(fault.NotFound, "InvalidModelName.NotFound",
	"The model is not in the catalogue.", "Call ListSupportModels for the names.")

// Model is one entry of the catalogue.
type Model struct {
	Name          string // the API's ModelName, and what clients send as "model"
	Description   string // for people; may be empty
	Task          Task
	Source        hub.Source
	Memory        int64  // bytes of accelerator memory that a replica needs in all; 0: not known
	Accelerators  []int  // the numbers of accelerators that a replica can be split over; nil: any
	EngineVersion string // the first version of vLLM that serves it, such as 0.8.5; "": any
	Arguments     vllm.Set
	Environment   map[string]string // added to the engine's
	Origin        string            // the file that it stands in; "": it comes with the program
}

// Task is what a model is for.
type Task string

// The tasks of models.
const (
	Generate Task = "generate" // chats and completions
	Embed    Task = "embed"    // embeddings
	Rerank   Task = "rerank"   // rerank and score
)

var tasks = []Task{Generate, Embed, Rerank}

// Catalog is what can be served: the models of the program, then those of the operator by the names of their files. It may
// be loaded again at any moment.
type Catalog struct {
	dir    string
	models atomic.Pointer[[]Model]
}

// Open returns the catalogue of the models that come with the program and of those in dir; "" for none of one's own. Its
// error holds every complaint about the files.
func Open(dir string) (*Catalog, error) {
	c := &Catalog{dir: dir}
	return c, c.Reload()
}

// Reload reads the directory again. Files that are refused change nothing.
func (c *Catalog) Reload() error {
	models := builtIn()
	if c.dir != "" {
		own, err := read(os.DirFS(c.dir))
		if err != nil {
			return fmt.Errorf("the catalogue %s: %w", c.dir, err)
		}
		for _, m := range own {
			if i := index(models, m.Name); i >= 0 {
				models[i] = m
			} else {
				models = append(models, m)
			}
		}
	}
	c.models.Store(&models)
	return nil
}

// Names returns the names of all models, in the order of the catalogue.
func (c *Catalog) Names() []string {
	models := *c.models.Load()
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = m.Name
	}
	return names
}

// Models returns all models. The slice is the caller's, what it holds is not.
func (c *Catalog) Models() []Model { return slices.Clone(*c.models.Load()) }

// Find returns the model with the name, or ErrNotFound.
func (c *Catalog) Find(name string) (Model, error) {
	models := *c.models.Load()
	i := index(models, name)
	if i < 0 {
		return Model{}, ErrNotFound.Withf("The model %.128q is not in the catalogue. Call ListSupportModels for the names.", name)
	}
	return models[i], nil
}

func index(models []Model, name string) int {
	return slices.IndexFunc(models, func(m Model) bool { return m.Name == name })
}
