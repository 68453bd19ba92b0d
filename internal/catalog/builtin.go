package catalog

import (
	"strings"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

const gib = 1 << 30

// published are models with open weights whose hub names are fixed by their publishers. The revision is the branch main: it
// is what the publisher says today, and a catalogue of one's own pins a commit. The memory is worked out, not measured: two
// bytes for each parameter that the publisher counts, and a fifth more for the cache and the engine itself.
var published = []struct {
	repository string
	task       Task
	memory     int64
	split      []int // where the number of attention heads allows not every split
}{
	{"deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", Generate, 17 * gib, []int{1, 2, 4}},
	{"Qwen/Qwen2.5-0.5B-Instruct", Generate, 2 * gib, []int{1, 2}},
	{"Qwen/Qwen2.5-7B-Instruct", Generate, 17 * gib, []int{1, 2, 4}},
	{"Qwen/Qwen3-0.6B", Generate, 2 * gib, nil},
	{"Qwen/Qwen3-8B", Generate, 19 * gib, nil},
	{"Qwen/Qwen3-32B", Generate, 74 * gib, nil},
	{"Qwen/Qwen3-Embedding-0.6B", Embed, 2 * gib, nil},
	{"BAAI/bge-reranker-v2-m3", Rerank, 2 * gib, nil},
}

func builtIn() []Model {
	models := make([]Model, len(published))
	for i, p := range published {
		_, name, _ := strings.Cut(p.repository, "/")
		models[i] = Model{
			Name: name, Task: p.task, Memory: p.memory, Accelerators: p.split, Arguments: vllm.Arguments(),
			Source: hub.Source{Kind: hub.HuggingFace, Name: p.repository, Revision: hub.HuggingFace.DefaultRevision()},
		}
	}
	return models
}
