// Package modelapi keeps Model APIs (HttpApi on the wire) with their routes and revisions, and compiles the deployed
// ones for gateways.
package modelapi

import (
	"time"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// The types of a Model API.
const (
	TypeLLM = "LLM" // exactly one protocol
	TypeAi  = "Ai"  // one or more
)

// Deploy statuses of an API and of a route.
const (
	NotDeployed         = "NotDeployed"
	Deployed            = "Deployed"
	DeployedWithChanges = "DeployedWithChanges" // gateways serve an earlier state than the one that is stored
)

// Spec is what a caller asks Create for.
type Spec struct {
	Name             string
	Type             string
	ModelCategory    string // "": Text
	AIProtocols      []string
	BasePath         string // "": /
	RemoveBasePath   bool
	Protocols        []string // nil: HTTP and HTTPS
	Description      string
	EnableAuth       bool
	AuthConfig       *AuthConfig
	FirstByteTimeout int // milliseconds until the first content of a stream, at most 3,600,000; 0: off
	TrafficConfig    TrafficConfig
	DeployConfigs    []DeployConfig // exactly one
	ResourceGroupID  string         // "": the default group
}

// UpdateSpec is what a caller asks Update for. What is nil stays as it is.
type UpdateSpec struct {
	BasePath         string // required
	AIProtocols      []string
	RemoveBasePath   *bool
	Protocols        []string
	Description      *string
	EnableAuth       *bool
	AuthConfig       *AuthConfig
	FirstByteTimeout *int
	TrafficConfig    *TrafficConfig // replaces the one there is
	DeployConfigs    []DeployConfig // replaces the one there is, but for domains that it does not name
	OnlyChangeConfig bool           // store, and leave what gateways serve alone
}

// Definition is what a caller edits: gateways serve it once it is deployed. A revision keeps one whole.
type Definition struct {
	Name             string            `json:"name"`
	Type             string            `json:"type"`
	ModelCategory    string            `json:"modelCategory"`
	AIProtocols      []string          `json:"aiProtocols"`
	BasePath         string            `json:"basePath"`
	RemoveBasePath   bool              `json:"removeBasePathOnForward"`
	Protocols        []string          `json:"protocols"`
	Description      string            `json:"description"`
	EnableAuth       bool              `json:"enableAuth"`
	AuthConfig       *AuthConfig       `json:"authConfig,omitempty"`
	FirstByteTimeout int               `json:"firstByteTimeout"`
	TrafficConfig    TrafficConfig     `json:"trafficConfig,omitzero"`
	DeployConfig     DeployConfig      `json:"deployConfig"`
	Routes           []RouteDefinition `json:"routes"`
}

// AuthConfig says how consumers prove who they are.
type AuthConfig struct {
	AuthType string `json:"authType,omitempty"` // Apikey, Jwt, AkSk
	AuthMode string `json:"authMode,omitempty"` // NoAuth, Custom
}

// authType is the AuthType as gateways know it.
func (d *Definition) authType() (known snapshot.AuthType) {
	if d.EnableAuth && d.AuthConfig != nil {
		_ = known.UnmarshalText([]byte(d.AuthConfig.AuthType)) // checked when it was stored; what was stored before is by key
	}
	return known
}

// DeployConfig says where an API answers and which services are behind it.
type DeployConfig struct {
	GatewayID         string          `json:"gatewayId"`
	EnvironmentID     string          `json:"environmentId"`
	BackendScene      string          `json:"backendScene"`
	AutoDeploy        bool            `json:"autoDeploy"`
	BuiltinRouteNames []string        `json:"-"` // nil: all of them (Update: those there are); a read names those there are
	Services          []ServiceConfig `json:"serviceConfigs"`
	PolicyConfigs     []PolicyConfig  `json:"policyConfigs"`
	CustomDomainIDs   []string        `json:"customDomainIds"` // nil: none (Update: those there are)
	EnvDomainIDs      []string        `json:"envDomainIds"`    // nil: the environment's sub-domain, whose id is the environment's (Update: as it is)
}

// TrafficConfig bounds what the requests of an API may take. What is 0 is the gateway's default.
type TrafficConfig struct {
	ConnectTimeout   int    `json:"connectTimeout,omitempty"`   // milliseconds, at most 60,000
	IdleTimeout      int    `json:"idleTimeout,omitempty"`      // milliseconds between two pieces of an answer, at most 86,400,000
	MaxConcurrency   int    `json:"maxConcurrency,omitempty"`   // requests under way in one gateway process, at most 1,000,000; 0: no limit
	MaxQueue         int    `json:"maxQueue,omitempty"`         // requests that wait for their turn, at most 100,000; with MaxConcurrency only
	ReplicaSelection string `json:"replicaSelection,omitempty"` // of a model service: LeastInFlight, which "" is, too, or PrefixAware
}

// ServiceConfig is a service that requests may go to.
type ServiceConfig struct {
	ServiceID        string         `json:"serviceId"`
	Name             string         `json:"-"` // of the service, in reads
	ModelName        string         `json:"modelName,omitempty"`
	ModelNamePattern string         `json:"modelNamePattern,omitempty"`         // of ByModelName: what a request's model must match, with ? and *
	Weight           int            `json:"weight,omitempty"`                   // of ByRatio, 1 to 100; the sum is 100
	Strategy         string         `json:"-"`                                  // asked for beside the scene: ByWeight, ByObservability; "": the scene's
	Observability    *Observability `json:"observabilityRouteConfig,omitempty"` // of ByObservability
}

// Observability says how a service is chosen by what gateways observe.
type Observability struct {
	Mode      string  `json:"mode"`                // LeastBusy, LeastFirstTokenLatency, LeastTotalLatency; the same for all services
	QueueSize int     `json:"queueSize,omitempty"` // over how many of the last answers a latency is taken, at most 10,000; 0: the gateway's default
	RateLimit float64 `json:"rateLimit,omitempty"` // the share of the requests that the service gets at most, above 0 to 1; 0: all
}

// PolicyConfig is one policy of an API or of a route.
type PolicyConfig struct {
	Type         string        `json:"type"`
	Enable       bool          `json:"enable"`
	AiStatistics *AiStatistics `json:"aiStatisticsConfig,omitempty"`
	AiFallback   *AiFallback   `json:"aiFallbackConfig,omitempty"`
}

// AiStatistics switches the recording of what is asked and answered.
type AiStatistics struct {
	LogRequestContent  bool `json:"logRequestContent"`
	LogResponseContent bool `json:"logResponseContent"`
	OwnFields          bool `json:"-"` // fields of one's own were asked for, which is refused
}

// AiFallback says where a request that names a model goes while the services before fail.
type AiFallback struct {
	OnlyRedirectUpstreamCode bool              `json:"onlyRedirectUpstreamCode"` // only a 4xx or 5xx of a service leads to the next
	Services                 []FallbackService `json:"serviceConfigs"`           // 1 to 10, in this order, without those of the API or route
}

// FallbackService is a service that is asked when those before have failed.
type FallbackService struct {
	ServiceID            string `json:"serviceId"`
	Name                 string `json:"-"`                         // of the service, in reads
	TargetModelName      string `json:"targetModelName,omitempty"` // written over the request's model; "": passed through
	PassThroughModelName bool   `json:"passThroughModelName"`      // as much as to say that TargetModelName is ""; in reads always right
}

// API is a Model API as it is stored, which gateways may not serve yet.
type API struct {
	ID        string
	AccountID string
	Definition
	GatewayName      string
	EnvironmentName  string
	EnvironmentAlias string
	SubDomain        string // of the environment; the API answers there when DeployConfig.EnvDomainIDs is not empty
	CustomDomains    []BoundDomain
	ResourceGroupID  string
	DeployedRevision int64     // 0: not deployed
	DeployStatus     string    // NotDeployed, Deployed, DeployedWithChanges
	Serving          []Serving // by every gateway process that reports; Get alone fills it in
	CreatedAt        time.Time
	UpdatedAt        time.Time
}

// BoundDomain is a domain an API answers on.
type BoundDomain struct {
	ID       string
	Name     string
	Protocol string
}

// Filter narrows a list of APIs; empty fields do not.
type Filter struct {
	GatewayID       string
	EnvironmentID   string
	Name            string
	Keyword         string // part of the name, or the id
	Types           []string
	ResourceGroupID string
	Page            instance.Page
}

// RouteSpec is what a caller asks CreateRoute for.
type RouteSpec struct {
	Name          string
	Description   string
	Match         Match
	Backend       *Backend // nil: the API's own
	PolicyConfigs []PolicyConfig
}

// RouteUpdate is what a caller asks UpdateRoute for. What is nil stays as it is.
type RouteUpdate struct {
	Description   *string
	Match         *Match
	Backend       *Backend // without services: the API's own
	PolicyConfigs []PolicyConfig
}

// RouteDefinition is what a caller edits of a route.
type RouteDefinition struct {
	ID            string         `json:"routeId"`
	Name          string         `json:"name"`
	Description   string         `json:"description"`
	Builtin       bool           `json:"builtin"`
	Match         Match          `json:"match"`
	Backend       *Backend       `json:"backend,omitempty"`
	PolicyConfigs []PolicyConfig `json:"policyConfigs"`
}

// Route is a route of a Model API as it is stored.
type Route struct {
	RouteDefinition
	APIID        string
	DeployStatus string // NotDeployed, Deployed, DeployedWithChanges
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// Match says which requests a route is for.
type Match struct {
	Path          PathMatch    `json:"path"`
	Methods       []string     `json:"methods,omitempty"` // empty: all
	Headers       []ValueMatch `json:"headers,omitempty"`
	QueryParams   []ValueMatch `json:"queryParams,omitempty"`
	IgnoreURICase bool         `json:"ignoreUriCase,omitempty"`
}

// The types of a match.
const (
	Exact    = "Exact"
	Prefix   = "Prefix"
	Regex    = "Regex"
	Template = "Template" // of a path: /models/{folder}, each {…} one segment
)

// PathMatch is asked of the path that follows the base path.
type PathMatch struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// ValueMatch is asked of a header or a query parameter.
type ValueMatch struct {
	Name  string `json:"name"`
	Type  string `json:"type"` // Exact, Prefix, Regex
	Value string `json:"value"`
}

// Backend is where requests go: the services, and how one of them is chosen.
type Backend struct {
	Scene    string          `json:"scene"`
	Services []ServiceConfig `json:"services"`
}

// RouteFilter narrows a list of routes; empty fields do not.
type RouteFilter struct {
	Name     string
	NameLike string
	PathLike string
	Page     instance.Page
}

// Revision is one deployment of an API. It never changes.
type Revision struct {
	ID        string // apr-…
	Number    int64
	Deployed  bool // the one that gateways serve
	Author    string
	CreatedAt time.Time
	Content   Definition
}
