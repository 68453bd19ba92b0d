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
	Task   Task
}

// Task is what a model is for.
type Task string

// The tasks of models.
const (
	Generate Task = "generate" // chats and completions
	Embed    Task = "embed"    // embeddings
	Rerank   Task = "rerank"   // rerank and score
)

// models are models with open weights whose hub names are fixed by their publishers.
var models = []Model{
	{"DeepSeek-R1-Distill-Qwen-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", Generate},
	{"Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct", Generate},
	{"Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", Generate},
	{"Qwen3-0.6B", "Qwen/Qwen3-0.6B", Generate},
	{"Qwen3-8B", "Qwen/Qwen3-8B", Generate},
	{"Qwen3-32B", "Qwen/Qwen3-32B", Generate},
	{"Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-0.6B", Embed},
	{"bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3", Rerank},
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
