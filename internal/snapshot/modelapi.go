package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
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
// What is read for every request comes first, in one piece of memory: among very many APIs nothing of it is in a cache.
type ModelAPI struct {
	ID             string      `json:"id"`
	Name           string      `json:"name"`
	AccountID      string      `json:"accountId"`
	Limits         *Limits     `json:"limits,omitempty"`     // nil: the gateway's defaults
	Statistics     *Statistics `json:"statistics,omitempty"` // nil: only usage records are written
	GatewayID      string      `json:"gatewayId"`
	EnvironmentID  string      `json:"environmentId"`
	Revision       int64       `json:"revision"`          // the number of the API's own revision
	Hosts          []string    `json:"hosts"`             // lower case, exact or *.example.com
	AnyHost        bool        `json:"anyHost,omitempty"` // answers for a Host that no domain claims, too
	Schemes        []string    `json:"schemes"`           // http, https
	BasePath       string      `json:"basePath"`          // begins with /, ends with it only when it is /
	RemoveBasePath bool        `json:"removeBasePath,omitempty"`
	Protocols      []string    `json:"protocols"`          // OpenAI/v1, Anthropic, DashScope, vLLM, ComfyUI: the shape of errors and the path of services
	Category       string      `json:"category"`           // Text, Image, Video, Audio, Embedding, Rerank, Others
	Auth           bool        `json:"auth,omitempty"`     // consumers only, and of those only the allowed ones
	AuthType       AuthType    `json:"authType,omitempty"` // with Auth: how consumers prove who they are
	Routes         []Route     `json:"routes"`
	Targets        []Target    `json:"targets"`            // of every route that has none of its own
	Scene          string      `json:"scene"`              // SingleService, …
	Fallback       *Fallback   `json:"fallback,omitempty"` // of every route that has none of its own; nil: none
}

// AuthType is how consumers prove who they are. It is written as text, and kept in a byte: there are many APIs.
type AuthType uint8

// The ways to prove it.
const (
	AuthByKey       AuthType = iota // an API key
	AuthByToken                     // a JSON Web Token
	AuthBySignature                 // an HMAC signature of the request
)

var authTypes = [...]string{AuthByKey: "Apikey", AuthByToken: "Jwt", AuthBySignature: "AkSk"}

func (t AuthType) String() string { return authTypes[t] }

// MarshalText is how an AuthType is published.
func (t AuthType) MarshalText() ([]byte, error) { return []byte(authTypes[t]), nil }

// UnmarshalText refuses what is not one of them: it is of a newer control plane.
func (t *AuthType) UnmarshalText(text []byte) error {
	at := slices.Index(authTypes[:], string(text))
	if at < 0 {
		return fmt.Errorf("consumers prove who they are by %q", text)
	}
	*t = AuthType(at)
	return nil
}

// Fallback is where a request goes, one target after the other, while whoever was asked before fails and nothing of an
// answer has been passed on. It is for routes whose requests name a model: what others ask for is kept by one service.
type Fallback struct {
	Targets           []Target `json:"targets"`                     // in this order; a service may be there again, with another model
	UpstreamCodesOnly bool     `json:"upstreamCodesOnly,omitempty"` // only a 4xx or 5xx of a service leads to the next
}

// Limits bound what the requests of an API may take. What is 0 is the gateway's default.
type Limits struct {
	FirstContent  int    `json:"firstContent,omitempty"`  // milliseconds from sending a request for a stream to the first content; 0: no limit
	Connect       int    `json:"connect,omitempty"`       // milliseconds
	Idle          int    `json:"idle,omitempty"`          // milliseconds between two pieces of an answer, once it has begun
	Concurrent    int    `json:"concurrent,omitempty"`    // requests under way in one gateway process; 0: no limit
	Queued        int    `json:"queued,omitempty"`        // requests that wait for their turn; 0: none
	ReplicaChoice string `json:"replicaChoice,omitempty"` // of a model service: LeastInFlight (the default) or PrefixAware
}

// How one of the replicas of a model service is chosen.
const (
	LeastInFlight = "LeastInFlight"
	PrefixAware   = "PrefixAware" // the one that has seen the beginning of the prompt, unless it is much busier than others
)

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
	Protocol   string       `json:"protocol"`           // the one of the API's protocols this route belongs to
	Model      string       `json:"model,omitempty"`    // where the request names its model: json, multipart, or "" for nowhere
	Targets    []Target     `json:"targets,omitempty"`  // of its own; empty: the API's
	Scene      string       `json:"scene,omitempty"`    // of its own targets
	Fallback   *Fallback    `json:"fallback,omitempty"` // of its own; nil: the API's
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

	// Of the scenes by what gateways observe.
	Share  float64 `json:"share,omitempty"`  // of the requests that it may get at most, above 0 to 1; 0: all
	Window int     `json:"window,omitempty"` // over how many of the last answers a latency is taken; 0: the gateway's default
}

// The scenes: how one of several targets is chosen.
const (
	SceneSingle      = "SingleService"
	SceneByRatio     = "MultiServiceByRatio"
	SceneByModelName = "MultiServiceByModelName" // the first in the list whose pattern matches

	// By what each gateway process observes of its own requests.
	SceneLeastBusy         = "LeastBusy"              // the fewest requests under way
	SceneLeastFirstContent = "LeastFirstTokenLatency" // the least time to the first content of a stream
	SceneLeastTotal        = "LeastTotalLatency"      // the least time to the end of an answer
)

// Observed reports whether a scene chooses by what gateways observe.
func Observed(scene string) bool {
	return scene == SceneLeastBusy || scene == SceneLeastFirstContent || scene == SceneLeastTotal
}

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
	ID         string              `json:"id"`
	Name       string              `json:"name"`
	AccountID  string              `json:"accountId,omitempty"` // "": published before there were tokens and signatures
	Keys       []ConsumerKey       `json:"keys"`
	Token      *ConsumerToken      `json:"token,omitempty"` // nil: it has none
	AccessKeys []ConsumerAccessKey `json:"accessKeys,omitempty"`
	Allowed    []string            `json:"allowed"` // ids of Model APIs, by its own rules and those of its groups
}

// ConsumerKey is one key, as a hash, and where a request carries it.
type ConsumerKey struct {
	Hash   []byte `json:"hash"`   // HashKey
	Source string `json:"source"` // Default (Authorization: Bearer, and x-api-key for Anthropic), Header, QueryString
	Name   string `json:"name,omitempty"`
}

// ConsumerToken is how a consumer is recognised by JSON Web Tokens.
type ConsumerToken struct {
	SealedKeys []byte `json:"sealedKeys"` // the JSON Web Key Set; opens under the snapshot key for TokenKeysPurpose of the consumer
	Symmetric  bool   `json:"symmetric,omitempty"`
	Claim      string `json:"claim"` // whose value is the consumer's; no other consumer of the account has both
	Value      string `json:"value"`
	Source     string `json:"source"`             // Header, QueryString
	Name       string `json:"name"`               // of the header or query parameter
	Prefix     string `json:"prefix,omitempty"`   // the word before the token in a header
	Issuer     string `json:"issuer,omitempty"`   // what iss must be; "": it is not looked at
	Audience   string `json:"audience,omitempty"` // what aud must hold; "": it is not looked at
}

// TokenKeysPurpose is what the keys of a consumer's tokens are sealed for.
func TokenKeysPurpose(consumerID string) string { return "snapshot/consumer/" + consumerID + "/token" }

// ConsumerAccessKey is a key that a consumer signs requests with.
type ConsumerAccessKey struct {
	ID           string `json:"id"`           // no other consumer of the account has it
	SealedSecret []byte `json:"sealedSecret"` // opens under the snapshot key for AccessKeyPurpose of the consumer and ID
}

// AccessKeyPurpose is what the secret of a consumer's access key is sealed for.
func AccessKeyPurpose(consumerID, id string) string {
	return "snapshot/consumer/" + consumerID + "/accessKey/" + id
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
	complain(!a.Fallback.fits(), "its fallback has no target")
	if l := a.Limits; l != nil {
		complain(min(l.FirstContent, l.Connect, l.Idle, l.Concurrent, l.Queued) < 0, "a limit is negative")
		complain(l.ReplicaChoice != "" && l.ReplicaChoice != LeastInFlight && l.ReplicaChoice != PrefixAware, "replicas are chosen by %q", l.ReplicaChoice)
	}
	for _, r := range a.Routes {
		complain(len(r.Targets) > 0 && !sceneFits(r.Scene, r.Targets), "the targets of route %s do not fit its scene %s", r.Name, r.Scene)
		complain(!r.Fallback.fits(), "the fallback of route %s has no target", r.Name)
		complain(!strings.HasPrefix(r.Path, "/"), "the path %q of route %s", r.Path, r.Name)
		complain(len(a.Targets) == 0 && len(r.Targets) == 0, "route %s goes nowhere", r.Name)
	}
	return errors.Join(complaints...)
}

func (f *Fallback) fits() bool {
	return f == nil || len(f.Targets) > 0 && !slices.ContainsFunc(f.Targets, func(t Target) bool { return t.ServiceID == "" })
}

// sceneFits reports whether a target can be chosen for every request that the scene is for.
func sceneFits(scene string, targets []Target) bool {
	total := 0
	for _, t := range targets {
		switch {
		case scene == SceneByModelName && t.Pattern == "",
			scene == SceneByRatio && (t.Weight < 1 || t.Weight > 100),
			Observed(scene) && (t.Share < 0 || t.Share > 1 || t.Window < 0):
			return false
		}
		total += t.Weight
	}
	switch scene {
	case SceneByRatio:
		return total == 100
	case SceneByModelName, SceneLeastBusy, SceneLeastFirstContent, SceneLeastTotal:
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
