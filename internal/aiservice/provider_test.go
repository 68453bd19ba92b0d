package aiservice

import (
	"net/url"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// called is the URL that the service at address gets a request of the route at.
func called(t *testing.T, provider, address, route string) string {
	t.Helper()
	view, err := (&row{id: "svc", sourceType: AI, config: config{Provider: provider, Address: address}}).view()
	require.NoError(t, err)
	require.NoError(t, view.Validate())
	path, renamed := view.Paths[route]
	if !renamed {
		path = route
	}
	return view.URLs[0] + path
}

func TestEveryProviderIsCalledWhereItAnswers(t *testing.T) {
	t.Parallel()
	const chat, embeddings, files, native = "/v1/chat/completions", "/v1/embeddings", "/v1/files", "/api/v1/services/aigc/text2image/image-synthesis"
	for _, c := range []struct{ provider, address, route, want string }{
		{"qwen", "", chat, "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"},
		{"qwen", "", "/v1/completions", "https://dashscope.aliyuncs.com/compatible-mode/v1/completions"},
		{"qwen", "", "/v1/responses", "https://dashscope.aliyuncs.com/compatible-mode/v1/responses"},
		{"qwen", "", embeddings, "https://dashscope.aliyuncs.com/compatible-mode/v1/embeddings"},
		{"qwen", "", files, "https://dashscope.aliyuncs.com/compatible-mode/v1/files"},
		{"qwen", "", "/v1/rerank", "https://dashscope.aliyuncs.com/compatible-api/v1/reranks"},
		{"qwen", "", messages, "https://dashscope.aliyuncs.com/apps/anthropic/v1/messages"},
		{"qwen", "", native, "https://dashscope.aliyuncs.com" + native},
		{"qwen", "", "/api-ws/v1/inference", "https://dashscope.aliyuncs.com/api-ws/v1/inference"},
		{"qwen", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", chat, "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions"},
		{"qwen", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", messages, "https://dashscope-intl.aliyuncs.com/apps/anthropic/v1/messages"},
		{"qwen", "https://dashscope-intl.aliyuncs.com/api/v1", native, "https://dashscope-intl.aliyuncs.com" + native},
		{"qwen", "https://proxy.example.com/qwen/compatible-mode/v1", native, "https://proxy.example.com/qwen" + native},
		{"moonshot", "", chat, "https://api.moonshot.cn/v1/chat/completions"},
		{"moonshot", "", messages, "https://api.moonshot.cn/anthropic/v1/messages"},
		{"moonshot", "https://api.moonshot.ai/v1", messages, "https://api.moonshot.ai/anthropic/v1/messages"},
		{"baichuan", "", chat, "https://api.baichuan-ai.com/v1/chat/completions"},
		{"yi", "", chat, "https://api.lingyiwanwu.com/v1/chat/completions"},
		{"zhipuai", "", chat, "https://open.bigmodel.cn/api/paas/v4/chat/completions"},
		{"zhipuai", "", messages, "https://open.bigmodel.cn/api/anthropic/v1/messages"},
		{"zhipuai", "https://api.z.ai/api/paas/v4", embeddings, "https://api.z.ai/api/paas/v4/embeddings"},
		{"zhipuai", "https://open.bigmodel.cn/api/coding/paas/v4", chat, "https://open.bigmodel.cn/api/coding/paas/v4/chat/completions"},
		{"360ai", "", chat, "https://api.360.cn/v1/chat/completions"},
		{"hunyuan", "", chat, "https://api.hunyuan.cloud.tencent.com/v1/chat/completions"},
		{"stepfun", "", chat, "https://api.stepfun.com/v1/chat/completions"},
		{"spark", "", chat, "https://spark-api-open.xf-yun.com/v1/chat/completions"},
		{"openai", "", "/v1/images/generations", "https://api.openai.com/v1/images/generations"},
		{"openai", "https://api.openai.com/v1", chat, "https://api.openai.com/v1/chat/completions"},
		{"claude", "", messages, "https://api.anthropic.com/v1/messages"},
		{"anthropic", "", messages, "https://api.anthropic.com/v1/messages"},
		{"doubao", "", chat, "https://ark.cn-beijing.volces.com/api/v3/chat/completions"},
		{"doubao", "", "/v1/responses", "https://ark.cn-beijing.volces.com/api/v3/responses"},
		{"minimax", "", chat, "https://api.minimaxi.com/v1/chat/completions"},
		{"minimax", "", messages, "https://api.minimaxi.com/anthropic/v1/messages"},
		{"gemini", "", chat, "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"},
		{"azure", "https://r.openai.azure.com", chat, "https://r.openai.azure.com/openai/v1/chat/completions"},
		{"azure", "https://r.openai.azure.com/openai/v1", embeddings, "https://r.openai.azure.com/openai/v1/embeddings"},
		{"deepseek", "", chat, "https://api.deepseek.com/v1/chat/completions"},
		{"deepseek", "", messages, "https://api.deepseek.com/anthropic/v1/messages"},
		{"custom", "http://vllm.example.com:8000", chat, "http://vllm.example.com:8000/v1/chat/completions"},
		{"custom", "http://vllm.example.com:8000/v1", chat, "http://vllm.example.com:8000/v1/chat/completions"},
		{"custom", "http://vllm.example.com:8000", "/v1/rerank", "http://vllm.example.com:8000/v1/rerank"},
		{"custom", "https://ai.example.com/openai", chat, "https://ai.example.com/openai/chat/completions"},
		{"custom", "https://ai.example.com/api/v3", "/v1/models", "https://ai.example.com/api/v3/models"},
		{"custom", "https://ai.example.com/anthropic", messages, "https://ai.example.com/anthropic/v1/messages"},
		{"custom", "http://comfy.example.com:8188", "/prompt", "http://comfy.example.com:8188/prompt"},
		{"pai-eas", "http://1.cn-hangzhou.pai-eas.aliyuncs.com/api/predict/chat", chat, "http://1.cn-hangzhou.pai-eas.aliyuncs.com/api/predict/chat/v1/chat/completions"},
		{"pai-eas", "http://1.cn-hangzhou.pai-eas.aliyuncs.com/api/predict/chat/v1", chat, "http://1.cn-hangzhou.pai-eas.aliyuncs.com/api/predict/chat/v1/chat/completions"},
	} {
		p, known := provider(c.provider)
		require.True(t, known, c.provider)
		if c.address == "" {
			c.address = p.Address
		}
		require.Equal(t, c.want, called(t, c.provider, c.address, c.route), "%s at %q", c.provider, c.address)
	}
}

// A customer may give the base URL as any of the provider's own clients takes it.
func TestEveryBaseURLOfAProviderLeadsToTheSamePaths(t *testing.T) {
	t.Parallel()
	for _, p := range Providers() {
		for route := range p.Paths {
			want := called(t, p.Name, "https://h.example.com", route)
			for _, base := range p.bases {
				require.Equal(t, want, called(t, p.Name, "https://h.example.com"+base, route), "%s%s", p.Name, base)
			}
		}
	}
}

func TestEveryRowOfTheTableIsComplete(t *testing.T) {
	t.Parallel()
	var names []string
	for _, p := range Providers() {
		names = append(names, p.Name)
		require.NotEmpty(t, p.Title)
		if p.Unsupported != "" {
			continue
		}
		require.NotEmpty(t, p.Protocols, p.Name)
		require.NotEmpty(t, p.KeyHeader, p.Name)
		for _, protocol := range append(slices.Clone(p.Protocols), p.CompatibleProtocols...) {
			require.Contains(t, []string{openAI, anthropic, dashScope, vLLM, comfyUI}, protocol)
		}
		if p.Address != "" {
			u, err := url.Parse(p.Address)
			require.NoError(t, err)
			require.Equal(t, "https", u.Scheme, p.Name)
			require.Empty(t, u.Path, p.Name)
		}
	}
	require.Equal(t, []string{
		"qwen", "moonshot", "baichuan", "yi", "zhipuai", "360ai", "hunyuan", "stepfun", "spark", "openai", "claude", "anthropic",
		"doubao", "minimax", "gemini", "azure", "deepseek", "custom", "pai-eas", "bedrock", "vertex",
	}, names)
}

func TestKeysAreSentAsEachProviderTakesThem(t *testing.T) {
	t.Parallel()
	for _, p := range Providers() {
		view, err := (&row{id: "svc", sourceType: AI, config: config{Provider: p.Name, Address: "https://h.example.com"}}).view()
		require.NoError(t, err)
		header, prefix := "Authorization", "Bearer "
		var headers map[string]string
		switch p.Name {
		case "claude", "anthropic":
			header, prefix, headers = "x-api-key", "", map[string]string{"anthropic-version": "2023-06-01"}
		case "azure":
			header, prefix = "api-key", ""
		case "bedrock", "vertex":
			header, prefix = "", ""
		}
		require.Equal(t, header, view.KeyHeader, p.Name)
		require.Equal(t, prefix, view.KeyPrefix, p.Name)
		require.Equal(t, headers, view.Headers, p.Name)
	}
}

func TestTheProvidersThatSpeakAnthropicByThemselves(t *testing.T) {
	t.Parallel()
	var compatible []string
	for _, p := range Providers() {
		if slices.Contains(p.CompatibleProtocols, anthropic) {
			compatible = append(compatible, p.Name)
		}
	}
	require.Equal(t, []string{"qwen", "moonshot", "zhipuai", "claude", "anthropic"}, compatible)
}

// A provider does not know the base path of a Model API, which stays on what is passed on as it came.
func TestNoProviderIsSentABasePath(t *testing.T) {
	t.Parallel()
	for _, p := range Providers() {
		if p.Address == "" {
			continue
		}
		for _, endpoint := range openAIEndpoints {
			require.Contains(t, p.Paths, "/v1/"+endpoint, p.Name)
		}
		require.Contains(t, p.Paths, messages, p.Name)
		for _, path := range dashScopePaths {
			require.Equal(t, slices.Contains(p.Protocols, dashScope), p.Paths[path] == path, "%s %s", p.Name, path)
		}
	}
}

func TestTheTableCannotBeChangedFromOutside(t *testing.T) {
	t.Parallel()
	Providers()[0].Paths["/v1/chat/completions"] = "/elsewhere"
	Providers()[0].Protocols[0] = "nothing"
	p, _ := provider("qwen")
	require.Equal(t, "/compatible-mode/v1/chat/completions", p.Paths["/v1/chat/completions"])
	require.Equal(t, openAI, p.Protocols[0])
}
