package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// The kinds of published items that Model APIs are made of.
const (
	KindModelAPI  = "model_api"
	KindAIService = "ai_service"
	KindConsumer  = "consumer"
	KindDomain    = "domain"
)

// ModelAPI is one deployed Model API as a gateway sees it.
type ModelAPI struct {
	ID             string   `json:"id"`
	Name           string   `json:"name"`
	AccountID      string   `json:"accountId"`
	GatewayID      string   `json:"gatewayId"`
	EnvironmentID  string   `json:"environmentId"`
	Revision       int64    `json:"revision"`          // the number of the API's own revision
	Hosts          []string `json:"hosts"`             // lower case, exact or *.example.com
	AnyHost        bool     `json:"anyHost,omitempty"` // answers for a Host that no domain claims, too
	Schemes        []string `json:"schemes"`           // http, https
	BasePath       string   `json:"basePath"`          // begins with /, ends with it only when it is /
	RemoveBasePath bool     `json:"removeBasePath,omitempty"`
	Protocols      []string `json:"protocols"`      // OpenAI/v1, Anthropic, DashScope, vLLM, ComfyUI: the shape of errors and the path of services
	Category       string   `json:"category"`       // Text, Image, Video, Audio, Embedding, Rerank, Others
	Auth           bool     `json:"auth,omitempty"` // consumers only, and of those only the allowed ones
	Routes         []Route  `json:"routes"`
	Targets        []Target `json:"targets"` // of every route that has none of its own
	Scene          string   `json:"scene"`   // SingleService, …

	Statistics *Statistics `json:"statistics,omitempty"` // nil: only usage records are written
}

// Statistics says that requests are counted, logged and traced, and whether bodies are in the log.
type Statistics struct {
	LogRequestContent  bool `json:"logRequestContent,omitempty"`
	LogResponseContent bool `json:"logResponseContent,omitempty"`
}

// Route is one path of a Model API. Its path follows the base path.
type Route struct {
	ID         string       `json:"id"`
	Name       string       `json:"name"`
	PathType   string       `json:"pathType"` // Exact, Prefix, Regex, or Template: /models/{folder}, each {…} one segment
	Path       string       `json:"path"`
	IgnoreCase bool         `json:"ignoreCase,omitempty"`
	Methods    []string     `json:"methods,omitempty"` // empty: all
	Headers    []ValueMatch `json:"headers,omitempty"`
	Query      []ValueMatch `json:"query,omitempty"`
	Protocol   string       `json:"protocol"`          // the one of the API's protocols this route belongs to
	Model      string       `json:"model,omitempty"`   // where the request names its model: json, multipart, or "" for nowhere
	Targets    []Target     `json:"targets,omitempty"` // of its own; empty: the API's
	Scene      string       `json:"scene,omitempty"`   // of its own targets
}

// ModelInJSON is a route's Model when its requests name theirs in a JSON body.
const ModelInJSON = "json"

// ValueMatch asks something of a header or a query parameter.
type ValueMatch struct {
	Name  string `json:"name"`
	Type  string `json:"type"` // Exact, Prefix, Regex
	Value string `json:"value"`
}

// Target is a service that a request may go to.
type Target struct {
	ServiceID string `json:"serviceId"`
	Model     string `json:"model,omitempty"`   // written over the request's model; "": passed through
	Weight    int    `json:"weight,omitempty"`  // of SceneByRatio, 1 to 100; the sum is 100
	Pattern   string `json:"pattern,omitempty"` // of SceneByModelName: what the request's model must match, with ? and *
}

// The scenes: how one of several targets is chosen.
const (
	SceneSingle      = "SingleService"
	SceneByRatio     = "MultiServiceByRatio"
	SceneByModelName = "MultiServiceByModelName" // the first in the list whose pattern matches
)

// AIService is an upstream service as a gateway sees it.
type AIService struct {
	ID             string            `json:"id"`
	Name           string            `json:"name"`
	ModelServiceID string            `json:"modelServiceId,omitempty"` // one of ours: its replicas are in its own item
	URLs           []string          `json:"urls,omitempty"`           // otherwise: scheme://host:port and perhaps a path, one is chosen
	Paths          map[string]string `json:"paths,omitempty"`          // by route path: what the provider calls it; others pass as they are
	KeyHeader      string            `json:"keyHeader,omitempty"`      // how the key is sent: Authorization, x-api-key, …
	KeyPrefix      string            `json:"keyPrefix,omitempty"`      // "Bearer "
	Headers        map[string]string `json:"headers,omitempty"`        // sent unless the client sends its own, such as anthropic-version
	SealedKeys     [][]byte          `json:"sealedKeys,omitempty"`     // open under the snapshot key for ServiceKeyPurpose(ID)
	DefaultModel   string            `json:"defaultModel,omitempty"`
}

// ServiceKeyPurpose is what a service's keys are sealed for.
func ServiceKeyPurpose(serviceID string) string { return "snapshot/ai_service/" + serviceID + "/key" }

// Consumer is who may call Model APIs, as a gateway sees it.
type Consumer struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Keys    []ConsumerKey `json:"keys"`
	Allowed []string      `json:"allowed"` // ids of Model APIs, by its own rules and those of its groups
}

// ConsumerKey is one key, as a hash, and where a request carries it.
type ConsumerKey struct {
	Hash   []byte `json:"hash"`   // HashKey
	Source string `json:"source"` // Default (Authorization: Bearer, and x-api-key for Anthropic), Header, QueryString
	Name   string `json:"name,omitempty"`
}

// Domain is a host name with its certificate.
type Domain struct {
	ID         string `json:"id"`
	Name       string `json:"name"` // lower case, exact or *.example.com
	ForceHTTPS bool   `json:"forceHttps,omitempty"`
	HTTP2      bool   `json:"http2,omitempty"`
	CertPEM    string `json:"certPem,omitempty"`
	SealedKey  []byte `json:"sealedKey,omitempty"` // the PEM of the private key, under the snapshot key for DomainKeyPurpose(ID)
	MinTLS     uint16 `json:"minTls,omitempty"`    // crypto/tls version numbers; 0: the default
	MaxTLS     uint16 `json:"maxTls,omitempty"`
}

// DomainKeyPurpose is what a domain's private key is sealed for.
func DomainKeyPurpose(domainID string) string { return "snapshot/domain/" + domainID + "/key" }

// Validate refuses what a gateway could not serve.
func (a *ModelAPI) Validate() error {
	var complaints []error
	complain := func(wrong bool, format string, args ...any) {
		if wrong {
			complaints = append(complaints, fmt.Errorf("model API "+a.ID+": "+format, args...))
		}
	}
	complain(a.ID == "" || a.GatewayID == "", "id and gateway are required")
	complain(!strings.HasPrefix(a.BasePath, "/") || a.BasePath != "/" && strings.HasSuffix(a.BasePath, "/"), "the base path %q", a.BasePath)
	complain(len(a.Hosts) == 0 && !a.AnyHost, "it has no host")
	complain(len(a.Protocols) == 0, "it has no protocol")
	complain(!sceneFits(a.Scene, a.Targets), "the targets do not fit the scene %s", a.Scene)
	for _, r := range a.Routes {
		complain(len(r.Targets) > 0 && !sceneFits(r.Scene, r.Targets), "the targets of route %s do not fit its scene %s", r.Name, r.Scene)
		complain(!strings.HasPrefix(r.Path, "/"), "the path %q of route %s", r.Path, r.Name)
		complain(len(a.Targets) == 0 && len(r.Targets) == 0, "route %s goes nowhere", r.Name)
	}
	return errors.Join(complaints...)
}

// sceneFits reports whether a target can be chosen for every request that the scene is for.
func sceneFits(scene string, targets []Target) bool {
	total := 0
	for _, t := range targets {
		if scene == SceneByModelName && t.Pattern == "" || scene == SceneByRatio && (t.Weight < 1 || t.Weight > 100) {
			return false
		}
		total += t.Weight
	}
	switch scene {
	case SceneByRatio:
		return total == 100
	case SceneByModelName:
		return len(targets) > 0
	}
	return len(targets) <= 1
}

// Validate refuses what a gateway could not reach.
func (s *AIService) Validate() error {
	if (s.ModelServiceID == "") == (len(s.URLs) == 0) {
		return fmt.Errorf("service %s: it needs addresses or a model service, and not both", s.ID)
	}
	for _, address := range s.URLs {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return fmt.Errorf("service %s: the address %q", s.ID, address)
		}
	}
	return nil
}

// Encode renders a published body; validate it first.
func Encode(v any) ([]byte, error) { return json.Marshal(v) }
