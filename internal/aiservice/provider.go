package aiservice

import (
	"maps"
	"slices"
	"strings"
)

// Provider is who runs the models of a service: where it answers, what it calls each route, and how it takes its key.
type Provider struct {
	Name                string
	Title               string // for people
	Address             string // "": every service names its own
	Protocols           []string
	CompatibleProtocols []string          // spoken as well, with no setting
	Paths               map[string]string // by route path, from the root of the address; what is not named is passed on as it came
	KeyHeader           string
	KeyPrefix           string
	Headers             map[string]string // sent unless the client sends its own
	DefaultModel        string
	Unsupported         string // why no service can use it; "" when one can

	// bases are the paths that an address may end in: base URLs as this provider's own clients take them. They are
	// taken off, because Paths begin at the root.
	bases []string
	// mounted says that its routes keep their whole path below any other path of an address. Elsewhere such a path is
	// the base URL of an OpenAI client, which holds the version already.
	mounted bool
}

// The protocols a service may speak.
const (
	openAI    = "OpenAI/v1"
	anthropic = "Anthropic"
	dashScope = "DashScope"
	vLLM      = "vLLM"
	comfyUI   = "ComfyUI"
	original  = "original" // whatever the provider speaks
)

const messages = "/v1/messages"

// openAIEndpoints are the routes that OpenAI clients find below their base URL.
var openAIEndpoints = []string{
	"chat/completions", "completions", "responses", "embeddings", "images/generations", "images/edits",
	"images/variations", "audio/speech", "models", "files", "batches", "fine_tuning/jobs", "rerank",
}

// dashScopePaths are the routes that DashScope's own clients find at the root.
var dashScopePaths = []string{
	"/api/v1/services/aigc/text2image/image-synthesis", "/api/v1/services/aigc/image2image/image-synthesis",
	"/api/v1/services/aigc/image2image/out-painting", "/api/v1/services/aigc/virtualmodel/generation",
	"/api/v1/services/aigc/background-generation/generation", "/api/v1/services/aigc/video-generation/video-synthesis",
	"/api/v1/services/aigc/image2video/video-synthesis", "/api/v1/services/rerank/text-rerank/text-rerank",
	"/api/v1/tasks", "/api-ws/v1/inference",
}

// below maps the OpenAI route of each endpoint to the same endpoint below base.
func below(base string, endpoints ...string) map[string]string {
	paths := make(map[string]string, len(endpoints))
	for _, endpoint := range endpoints {
		paths["/v1/"+endpoint] = base + "/" + endpoint
	}
	return paths
}

// and adds paths to others.
func and(paths, more map[string]string) map[string]string {
	maps.Copy(paths, more)
	return paths
}

// providers is the table of all of them. Every address and path is the provider's own public one.
var providers = []Provider{
	{
		Name: "qwen", Title: "Alibaba Cloud Model Studio (Qwen)", Address: "https://dashscope.aliyuncs.com",
		Protocols: []string{openAI, dashScope}, CompatibleProtocols: []string{anthropic},
		Paths: and(below("/compatible-mode/v1", "chat/completions", "completions", "responses", "embeddings", "models", "files", "batches"),
			map[string]string{messages: "/apps/anthropic/v1/messages", "/v1/rerank": "/compatible-api/v1/reranks"}),
		DefaultModel: "qwen-plus",
		bases:        []string{"/compatible-mode/v1", "/compatible-api/v1", "/apps/anthropic", "/apps/anthropic/v1", "/api/v1"},
	},
	{
		Name: "moonshot", Title: "Moonshot AI", Address: "https://api.moonshot.cn",
		Protocols: []string{openAI}, CompatibleProtocols: []string{anthropic},
		Paths:        map[string]string{messages: "/anthropic/v1/messages"},
		DefaultModel: "moonshot-v1-8k",
		bases:        []string{"/v1", "/anthropic", "/anthropic/v1"},
	},
	{
		Name: "baichuan", Title: "Baichuan", Address: "https://api.baichuan-ai.com",
		Protocols: []string{openAI}, DefaultModel: "Baichuan4-Turbo",
	},
	{
		Name: "yi", Title: "01.AI (Yi)", Address: "https://api.lingyiwanwu.com",
		Protocols: []string{openAI}, DefaultModel: "yi-lightning",
	},
	{
		Name: "zhipuai", Title: "Zhipu AI", Address: "https://open.bigmodel.cn",
		Protocols: []string{openAI}, CompatibleProtocols: []string{anthropic},
		Paths: and(below("/api/paas/v4", "chat/completions", "embeddings", "images/generations", "files", "batches", "rerank"),
			map[string]string{messages: "/api/anthropic/v1/messages"}),
		DefaultModel: "glm-4-flash",
		bases:        []string{"/api/paas/v4", "/api/anthropic", "/api/anthropic/v1"},
	},
	{
		Name: "360ai", Title: "360", Address: "https://api.360.cn",
		Protocols: []string{openAI}, DefaultModel: "360gpt2-pro",
	},
	{
		Name: "hunyuan", Title: "Tencent Hunyuan", Address: "https://api.hunyuan.cloud.tencent.com",
		Protocols: []string{openAI}, DefaultModel: "hunyuan-turbos-latest",
	},
	{
		Name: "stepfun", Title: "StepFun", Address: "https://api.stepfun.com",
		Protocols: []string{openAI}, DefaultModel: "step-2-mini",
	},
	{
		Name: "spark", Title: "iFLYTEK Spark", Address: "https://spark-api-open.xf-yun.com",
		Protocols: []string{openAI}, DefaultModel: "4.0Ultra",
	},
	{
		Name: "openai", Title: "OpenAI", Address: "https://api.openai.com",
		Protocols: []string{openAI}, DefaultModel: "gpt-4o-mini",
	},
	anthropicAs("claude"),
	anthropicAs("anthropic"),
	{
		Name: "doubao", Title: "Volcengine Doubao", Address: "https://ark.cn-beijing.volces.com",
		Protocols: []string{openAI},
		Paths:     below("/api/v3", "chat/completions", "responses", "embeddings", "images/generations", "models", "files"),
		bases:     []string{"/api/v3"}, // its models are endpoints of the customer's own: there is no default
	},
	{
		Name: "minimax", Title: "MiniMax", Address: "https://api.minimaxi.com",
		Protocols:    []string{openAI, anthropic},
		Paths:        map[string]string{messages: "/anthropic/v1/messages"},
		DefaultModel: "MiniMax-M2",
		bases:        []string{"/v1", "/anthropic", "/anthropic/v1"},
	},
	{
		Name: "gemini", Title: "Google Gemini", Address: "https://generativelanguage.googleapis.com",
		Protocols:    []string{openAI},
		Paths:        below("/v1beta/openai", "chat/completions", "embeddings", "images/generations", "models", "files", "batches"),
		DefaultModel: "gemini-2.5-flash",
		bases:        []string{"/v1beta/openai", "/v1beta"},
	},
	{
		Name: "azure", Title: "Azure OpenAI", // every resource has an address of its own, and names its deployments
		Protocols: []string{openAI}, Paths: below("/openai/v1", openAIEndpoints...),
		KeyHeader: "api-key",
		bases:     []string{"/openai/v1", "/openai"},
	},
	{
		Name: "deepseek", Title: "DeepSeek", Address: "https://api.deepseek.com",
		Protocols: []string{openAI, anthropic},
		Paths: map[string]string{
			messages: "/anthropic/v1/messages", "/v1/completions": "/beta/completions",
		},
		DefaultModel: "deepseek-chat",
		bases:        []string{"/v1", "/beta", "/anthropic", "/anthropic/v1"},
	},
	{
		Name: "custom", Title: "OpenAI-compatible", // vLLM, ComfyUI and everything else that is run by oneself, too
		Protocols: []string{openAI, anthropic, dashScope, vLLM, comfyUI},
	},
	{
		Name: "pai-eas", Title: "PAI-EAS", // http://….pai-eas.aliyuncs.com/api/predict/SERVICE
		Protocols: []string{openAI, anthropic, vLLM, comfyUI},
		mounted:   true,
	},
	{Name: "bedrock", Title: "Amazon Bedrock", Unsupported: "its requests are signed one by one with an AWS key, not sent with an API key"},
	{Name: "vertex", Title: "Google Vertex AI", Unsupported: "its requests carry tokens signed with a service account, not an API key"},
}

func anthropicAs(name string) Provider {
	return Provider{
		Name: name, Title: "Anthropic Claude", Address: "https://api.anthropic.com",
		Protocols: []string{anthropic}, CompatibleProtocols: []string{anthropic},
		KeyHeader: "x-api-key", Headers: map[string]string{"anthropic-version": "2023-06-01"},
		DefaultModel: "claude-sonnet-4-5",
	}
}

// bearer is how a key is sent unless the table says otherwise.
const bearer = "Bearer "

// Providers returns the table, for documents and tests. It is the caller's to change.
func Providers() []Provider {
	all := make([]Provider, len(providers))
	for i, p := range providers {
		all[i] = p.complete()
	}
	return all
}

func provider(name string) (Provider, bool) {
	i := slices.IndexFunc(providers, func(p Provider) bool { return p.Name == name })
	if i < 0 {
		return Provider{}, false
	}
	return providers[i].complete(), true
}

// complete returns a copy with what most rows of the table have in common.
func (p Provider) complete() Provider {
	p.Protocols, p.CompatibleProtocols = slices.Clone(p.Protocols), slices.Clone(p.CompatibleProtocols)
	p.Paths, p.Headers = maps.Clone(p.Paths), maps.Clone(p.Headers)
	if p.KeyHeader == "" && p.Unsupported == "" {
		p.KeyHeader, p.KeyPrefix = "Authorization", bearer
	}
	if len(p.bases) == 0 {
		p.bases = []string{"/v1"}
	}
	if p.Address != "" { // it knows no base path of ours: every route is called by its own name
		paths := and(below("/v1", openAIEndpoints...), map[string]string{messages: messages})
		if slices.Contains(p.Protocols, dashScope) {
			for _, path := range dashScopePaths {
				paths[path] = path
			}
		}
		p.Paths = and(paths, p.Paths)
	}
	return p
}

// speaks reports whether the provider answers in the protocol.
func (p Provider) speaks(protocol string) bool {
	return protocol == original || slices.Contains(p.Protocols, protocol) || slices.Contains(p.CompatibleProtocols, protocol)
}

// at returns what an address with the given path (no slash at its end) comes to: the path that stays in the URL, and
// what each route is called below it.
func (p Provider) at(path string) (stays string, paths map[string]string) {
	longest := -1
	for _, base := range p.bases {
		if strings.HasSuffix(path, base) && len(base) > longest {
			longest = len(base)
		}
	}
	switch {
	case longest > 0:
		return path[:len(path)-longest], p.Paths
	case path == "" || p.mounted:
		return path, p.Paths
	default:
		return path, and(below("", openAIEndpoints...), map[string]string{messages: messages})
	}
}

// protocolAliases are other spellings of protocols, in lower case.
var protocolAliases = map[string]string{
	"openai/v1": openAI, "anthropic": anthropic, "vllm": vLLM, "comfyui": comfyUI, "original": original,
	"dashscope": dashScope, "dashscopeimage": dashScope, "dashscopevideo": dashScope, "dashscopeaudio": dashScope,
	"dashscopererank": dashScope,
}
