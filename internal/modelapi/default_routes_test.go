package modelapi

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheDefaultRoutesAreThoseOfTheProduct(t *testing.T) {
	t.Parallel()
	want := map[string]int{
		"Text OpenAI/v1": 2, "Text Anthropic": 1,
		"Image DashScope": 6, "Image OpenAI/v1": 3, "Image ComfyUI": 25,
		"Video DashScope": 3,
		"Audio DashScope": 1, "Audio OpenAI/v1": 1,
		"Embedding OpenAI/v1": 1,
		"Rerank DashScope":    1, "Rerank vLLM": 1,
		"Others OpenAI/v1": 4,
	}
	counted, extensions, total := map[string]int{}, []string{}, 0
	for _, g := range defaultGroups {
		routes, err := DefaultRoutes(g.category, g.protocol)
		require.NoError(t, err)
		for _, r := range routes {
			require.Equal(t, []string{g.category, g.protocol}, []string{r.Category, r.Protocol})
			if r.Extension {
				extensions = append(extensions, r.Category+" "+r.Protocol+" "+r.Path)
				continue
			}
			counted[r.Category+" "+r.Protocol]++
			total++
		}
	}
	require.Equal(t, want, counted)
	require.Equal(t, 49, total)
	require.Equal(t, []string{"Text OpenAI/v1 /v1/responses"}, extensions)
}

func TestAnAPIOfEveryProtocolHasNoNameOrPathTwice(t *testing.T) {
	t.Parallel()
	for _, category := range Categories() {
		names, paths := map[string]bool{}, map[string]bool{}
		for _, g := range defaultGroups {
			if g.category != category {
				continue
			}
			for _, r := range g.filled() {
				require.False(t, names[r.Name], "%s %s", category, r.Name)
				require.False(t, paths[r.Path], "%s %s", category, r.Path)
				names[r.Name], paths[r.Path] = true, true
			}
		}
	}
}

func TestEveryDefaultRouteIsOneThatAUserCouldMake(t *testing.T) {
	t.Parallel()
	for _, g := range defaultGroups {
		for _, r := range g.filled() {
			made := r.definition()
			require.NoError(t, made.check("/"), r.Name)
			require.NotEmpty(t, r.Methods, r.Name)
			require.NotEmpty(t, r.Description, r.Name)
		}
	}
}

func TestTheTypeOfAPathFollowsItsForm(t *testing.T) {
	t.Parallel()
	kinds := map[string][]string{}
	for _, g := range defaultGroups {
		for _, r := range g.filled() {
			kind := fmt.Sprintf("%s %d %q %v", r.PathType, len(r.Methods), r.Model, r.WebSocket)
			kinds[kind] = append(kinds[kind], r.Name)
		}
	}
	require.Equal(t, []string{"tasks", "tasks", "models", "files", "batches"}, kinds[`Prefix 5 "" false`])
	require.Equal(t, []string{"fine-tuning"}, kinds[`Prefix 5 "json" false`], "its creation names a model")
	require.Equal(t, []string{"images-edits", "images-variations"}, kinds[`Exact 1 "multipart" false`])
	require.Equal(t, []string{"ws", "inference-ws"}, kinds[`Exact 1 "" true`])
	require.Equal(t, []string{"models-folder", "view-metadata", "object-info-node", "history-prompt", "userdata-file-move"}, kinds[`Template 1 "" false`])
	require.Equal(t, []string{"userdata-file"}, kinds[`Template 3 "" false`])
}

func TestSpellingsOfProtocolsAndScenarios(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ category, protocol, first string }{
		{"", "openai/V1", "chat-completions"},
		{"text", "ANTHROPIC", "messages"},
		{"Image", "DashScopeImage", "text2image-image-synthesis"},
		{"Video", "dashscopevideo", "video-generation-video-synthesis"},
		{"Audio", "DashScopeAudio", "inference-ws"},
		{"Rerank", "DashScopeRerank", "text-rerank"},
		{"rerank", "vllm", "rerank"},
		{"IMAGE", "comfyui", "ws"},
	} {
		routes, err := DefaultRoutes(c.category, c.protocol)
		require.NoError(t, err)
		require.Equal(t, c.first, routes[0].Name)
	}
	for _, c := range []struct{ category, protocol, want string }{
		{"Text", "DashScope", "it has OpenAI/v1, Anthropic"},
		{"Video", "OpenAI/v1", "it has DashScope"},
		{"Audio", "Anthropic", "it has DashScope, OpenAI/v1"},
		{"Text", "", "it has OpenAI/v1, Anthropic"},
		{"Speech", "OpenAI/v1", "InvalidParameter.ModelCategory"},
	} {
		_, err := DefaultRoutes(c.category, c.protocol)
		require.ErrorContains(t, err, c.want)
	}
}

func TestTheTableCannotBeChangedThroughACopy(t *testing.T) {
	t.Parallel()
	routes, err := DefaultRoutes("Others", "OpenAI/v1")
	require.NoError(t, err)
	routes[0].Name, routes[0].Methods[0] = "x", "X"
	again, err := DefaultRoutes("Others", "OpenAI/v1")
	require.NoError(t, err)
	require.Equal(t, []string{"models", "GET"}, []string{again[0].Name, again[0].Methods[0]})
}
