// Package catalog holds the models that can be served.
package catalog

import (
	"slices"

	"github.com/engineshed/engineshed/internal/fault"
)

// ErrNotFound refuses a model that is not in the catalogue.
var ErrNotFound = fault.New(fault.NotFound, "InvalidModelName.NotFound",
	"The model is not in the catalogue. Call ListSupportModels for the names.")

// Model is one entry of the catalogue.
type Model struct {
	Name   string // the API's ModelName, and what clients send as "model"
	Source string // what the engine is told to load: a hub name
}

// models are generation models with open weights whose hub names are fixed by their publishers.
var models = []Model{
	{"DeepSeek-R1-Distill-Qwen-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"},
	{"Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"},
	{"Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"},
	{"Qwen3-0.6B", "Qwen/Qwen3-0.6B"},
	{"Qwen3-8B", "Qwen/Qwen3-8B"},
	{"Qwen3-32B", "Qwen/Qwen3-32B"},
}

// Names returns the names of all models, in the order of the catalogue.
func Names() []string {
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = m.Name
	}
	return names
}

// Find returns the model with the name, or ErrNotFound.
func Find(name string) (Model, error) {
	i := slices.IndexFunc(models, func(m Model) bool { return m.Name == name })
	if i < 0 {
		return Model{}, ErrNotFound.Withf("The model %q is not in the catalogue. Call ListSupportModels for the names.", name)
	}
	return models[i], nil
}
