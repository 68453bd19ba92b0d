package modelapi

import (
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// The protocols of Model APIs.
const (
	protocolOpenAI    = "OpenAI/v1"
	protocolAnthropic = "Anthropic"
	protocolDashScope = "DashScope"
	protocolVLLM      = "vLLM"
	protocolComfyUI   = "ComfyUI"
)

// Where a request names its model.
const (
	modelInJSON      = snapshot.ModelInJSON
	modelInMultipart = "multipart"
	modelNowhere     = ""
)

// DefaultRoute is a route that the system makes with an API of its scenario and protocol.
type DefaultRoute struct {
	Category    string // the scenario
	Protocol    string
	Name        string
	PathType    string // Exact, Prefix, Template
	Path        string
	Methods     []string
	Description string
	Model       string // where a request names its model: json, multipart, or "" for nowhere
	WebSocket   bool
	Extension   bool // not one of the product's
}

// group is the default routes of one scenario and protocol.
type group struct {
	category string
	protocol string
	routes   []DefaultRoute
}

var defaultGroups = []group{
	{"Text", protocolOpenAI, []DefaultRoute{
		post("chat-completions", "/v1/chat/completions", "Answers a conversation with the model's next message."),
		post("completions", "/v1/completions", "Continues a prompt."),
		post("responses", "/v1/responses", "Answers an input, which may be a conversation with tools.").extension(),
	}},
	{"Text", protocolAnthropic, []DefaultRoute{
		post("messages", "/v1/messages", "Answers a conversation in the message format of Anthropic."),
	}},
	{"Image", protocolDashScope, []DefaultRoute{
		post("text2image-image-synthesis", "/api/v1/services/aigc/text2image/image-synthesis", "Draws an image from a text."),
		post("image2image-image-synthesis", "/api/v1/services/aigc/image2image/image-synthesis", "Makes an image from another one."),
		post("image2image-out-painting", "/api/v1/services/aigc/image2image/out-painting", "Continues an image beyond its edges."),
		post("virtualmodel-generation", "/api/v1/services/aigc/virtualmodel/generation", "Shows a product with a model who does not exist."),
		post("background-generation", "/api/v1/services/aigc/background-generation/generation", "Puts a new background behind a subject."),
		manage("tasks", "/api/v1/tasks", "Looks after asynchronous tasks: reads, lists and cancels them."),
	}},
	{"Image", protocolOpenAI, []DefaultRoute{
		post("images-generations", "/v1/images/generations", "Draws an image from a prompt."),
		post("images-edits", "/v1/images/edits", "Changes an image by a prompt.").multipart(),
		post("images-variations", "/v1/images/variations", "Draws a variation of an image.").multipart(),
	}},
	{"Image", protocolComfyUI, []DefaultRoute{
		plain("ws", "/ws", "Tells over a WebSocket how work gets on.", "GET").webSocket(),
		plain("embeddings", "/embeddings", "Names the embeddings that can be used.", "GET"),
		plain("extensions", "/extensions", "Names the extensions that bring web files.", "GET"),
		plain("features", "/features", "Says what the server can do.", "GET"),
		plain("models", "/models", "Names the kinds of models.", "GET"),
		plain("models-folder", "/models/{folder}", "Names the models of one kind.", "GET"),
		plain("workflow-templates", "/workflow_templates", "Names custom node modules with their example workflows.", "GET"),
		plain("upload-image", "/upload/image", "Takes in an image.", "POST"),
		plain("upload-mask", "/upload/mask", "Takes in a mask.", "POST"),
		plain("view", "/view", "Gives out an image, in the size and form asked for.", "GET"),
		plain("view-metadata", "/view_metadata/{folder_name}", "Shows what a model file says of itself.", "GET"),
		plain("system-stats", "/system_stats", "Shows the server's versions, devices and memory.", "GET"),
		plain("prompt", "/prompt", "Puts a workflow into the queue, or shows how long the queue is.", "GET", "POST"),
		plain("object-info", "/object_info", "Describes every node type.", "GET"),
		plain("object-info-node", "/object_info/{node_class}", "Describes one node type.", "GET"),
		plain("history", "/history", "Shows or clears what has been run.", "GET", "POST"),
		plain("history-prompt", "/history/{prompt_id}", "Shows what one prompt gave.", "GET"),
		plain("queue", "/queue", "Shows what is running and waiting, or takes something out.", "GET", "POST"),
		plain("interrupt", "/interrupt", "Stops the workflow that is running.", "POST"),
		plain("free", "/free", "Unloads models to free memory.", "POST"),
		plain("userdata", "/userdata", "Lists a user's files in a directory.", "GET"),
		plain("userdata-v2", "/v2/userdata", "Lists a user's files and directories with their details.", "GET"),
		plain("userdata-file", "/userdata/{file}", "Reads, writes or deletes a file of a user.", "GET", "POST", "DELETE"),
		plain("userdata-file-move", "/userdata/{file}/move/{dest}", "Moves or renames a file of a user.", "POST"),
		plain("users", "/users", "Shows the users, or adds one.", "GET", "POST"),
	}},
	{"Video", protocolDashScope, []DefaultRoute{
		post("video-generation-video-synthesis", "/api/v1/services/aigc/video-generation/video-synthesis", "Makes a video from a text or a first frame."),
		post("image2video-video-synthesis", "/api/v1/services/aigc/image2video/video-synthesis", "Brings an image to life as a video."),
		manage("tasks", "/api/v1/tasks", "Looks after asynchronous tasks: reads, lists and cancels them."),
	}},
	{"Audio", protocolDashScope, []DefaultRoute{
		plain("inference-ws", "/api-ws/v1/inference", "Speaks a text over a WebSocket.", "GET").webSocket(),
	}},
	{"Audio", protocolOpenAI, []DefaultRoute{
		post("audio-speech", "/v1/audio/speech", "Speaks a text."),
	}},
	{"Embedding", protocolOpenAI, []DefaultRoute{
		post("embeddings", "/v1/embeddings", "Turns texts into vectors."),
	}},
	{"Rerank", protocolDashScope, []DefaultRoute{
		post("text-rerank", "/api/v1/services/rerank/text-rerank/text-rerank", "Orders documents by how well they answer a query."),
	}},
	{"Rerank", protocolVLLM, []DefaultRoute{
		post("rerank", "/v1/rerank", "Orders documents by how well they answer a query."),
	}},
	{"Others", protocolOpenAI, []DefaultRoute{
		manage("models", "/v1/models", "Looks after models: lists, shows and deletes them."),
		manage("files", "/v1/files", "Looks after files: uploads, reads and deletes them."),
		manage("batches", "/v1/batches", "Looks after batches: starts, follows and cancels them."),
		manage("fine-tuning", "/v1/fine_tuning/jobs", "Looks after fine-tuning jobs: starts, follows and cancels them.").json(),
	}},
}

// post is a route for one endpoint that names its model in JSON.
func post(name, path, description string) DefaultRoute {
	return plain(name, path, description, "POST").json()
}

// manage is a route for a collection and everything below it.
func manage(name, path, description string) DefaultRoute {
	r := plain(name, path, description, "GET", "POST", "PUT", "PATCH", "DELETE")
	r.PathType = Prefix
	return r
}

// plain is a route whose requests name no model.
func plain(name, path, description string, methods ...string) DefaultRoute {
	r := DefaultRoute{Name: name, PathType: Exact, Path: path, Methods: methods, Description: description, Model: modelNowhere}
	if strings.Contains(path, "{") {
		r.PathType = Template
	}
	return r
}

func (r DefaultRoute) json() DefaultRoute      { r.Model = modelInJSON; return r }
func (r DefaultRoute) multipart() DefaultRoute { r.Model = modelInMultipart; return r }
func (r DefaultRoute) webSocket() DefaultRoute { r.WebSocket = true; return r }
func (r DefaultRoute) extension() DefaultRoute { r.Extension = true; return r }

// DefaultRoutes returns the default routes of a scenario and a protocol, or says which ones there are. Both are
// compared without regard to case.
func DefaultRoutes(category, protocol string) ([]DefaultRoute, error) {
	category, err := canonicalCategory(category)
	if err != nil {
		return nil, err
	}
	protocol = canonicalProtocol(protocol)
	var known []string
	for _, g := range defaultGroups {
		if g.category != category {
			continue
		}
		if g.protocol == protocol {
			return g.filled(), nil
		}
		known = append(known, g.protocol)
	}
	return nil, ErrProtocols.Withf("The scenario %s has no protocol %.40q; it has %s.", category, protocol, strings.Join(known, ", "))
}

// filled returns copies of the routes that know where they belong.
func (g group) filled() []DefaultRoute {
	routes := slices.Clone(g.routes)
	for i := range routes {
		routes[i].Category, routes[i].Protocol, routes[i].Methods = g.category, g.protocol, slices.Clone(routes[i].Methods)
	}
	return routes
}

// Categories returns the scenarios there are.
func Categories() []string {
	var categories []string
	for _, g := range defaultGroups {
		if !slices.Contains(categories, g.category) {
			categories = append(categories, g.category)
		}
	}
	return categories
}

func canonicalCategory(category string) (string, error) {
	if category == "" {
		return "Text", nil
	}
	for _, known := range Categories() {
		if strings.EqualFold(known, category) {
			return known, nil
		}
	}
	return "", ErrCategory.Withf("The modelCategory %.40q is not a scenario; those are %s.", category, strings.Join(Categories(), ", "))
}

// protocolAliases are other spellings that clients use.
var protocolAliases = map[string]string{
	"DashScopeImage":  protocolDashScope,
	"DashScopeVideo":  protocolDashScope,
	"DashScopeAudio":  protocolDashScope,
	"DashScopeRerank": protocolDashScope,
}

// canonicalProtocol returns the one spelling of a protocol, and what is none as it came.
func canonicalProtocol(protocol string) string {
	for alias, known := range protocolAliases {
		if strings.EqualFold(alias, protocol) {
			return known
		}
	}
	for _, g := range defaultGroups {
		if strings.EqualFold(g.protocol, protocol) {
			return g.protocol
		}
	}
	return protocol
}

// defaultsOf returns the default routes of all of an API's protocols, in the order of the table.
func defaultsOf(category string, protocols []string) ([]DefaultRoute, error) {
	var all []DefaultRoute
	for _, protocol := range protocols {
		routes, err := DefaultRoutes(category, protocol)
		if err != nil {
			return nil, err
		}
		all = append(all, routes...)
	}
	return all, nil
}

// knownPath returns the default route with the path, preferably one of the API's.
func knownPath(def *Definition, path string) (DefaultRoute, bool) {
	var found *DefaultRoute
	for _, g := range defaultGroups {
		for _, r := range g.filled() {
			if r.Path != path || found != nil && (g.category != def.ModelCategory || !slices.Contains(def.AIProtocols, g.protocol)) {
				continue
			}
			found = &r
		}
	}
	if found == nil {
		return DefaultRoute{}, false
	}
	return *found, true
}
