// Package consumer keeps who may call Model APIs: consumers with their keys, groups of them, and authorization rules.
package consumer

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/secret"
)

// The refusals of this package.
var (
	ErrName = fault.New(fault.Invalid, "InvalidParameter.Name",
		"The parameter name is not a name for this kind of resource.", "Send one of the characters and the length that the message tells.")
	ErrNotFound = fault.New(fault.NotFound, "NotFound.ConsumerNotFound",
		"The consumer does not exist.", "Call ListConsumers for the ids of this account.")
	ErrNameTaken = fault.New(fault.Conflict, "Conflict.ConsumerNameDuplicate",
		"The account has a consumer of this name already.", "Choose another name.")
	// ErrKeyTaken does not say whose the key is: it would tell a guesser that the guess is right.
	ErrKeyTaken = fault.New(fault.Conflict, "Conflict.ApiKeyUnavailable",
		"One of the keys cannot be used.", "Choose another, or let the system generate it.")
	ErrClaimTaken = fault.New(fault.Conflict, "Conflict.JwtClaimDuplicate",
		"Another consumer of the account is known by this claim and value already.",
		"Send another value of the claim, or take it from the other consumer first.")
	ErrAccessKeyTaken = fault.New(fault.Conflict, "Conflict.AccessKeyDuplicate",
		"Another consumer of the account has the access key already.", "Choose another ak, or let the system generate it.")
	ErrGroupNotFound = fault.New(fault.NotFound, "NotFound.ConsumerGroupNotFound",
		"The consumer group does not exist.", "Call ListConsumerGroups for the ids of this account.")
	ErrGroupNameTaken = fault.New(fault.Conflict, "Conflict.ConsumerGroupNameDuplicate",
		"The account has a consumer group of this name already.", "Choose another name.")
	ErrRuleNotFound = fault.New(fault.NotFound, "NotFound.ConsumerAuthorizationRuleNotFound",
		"The authorization rule does not exist.", "Call QueryConsumerAuthorizationRules for the ids of this account.")
	ErrRuleExists = fault.New(fault.Conflict, "Conflict.ConsumerAuthorizationForbidden",
		"The consumer or the group may call the Model API already.",
		"Nothing is left to do; QueryConsumerAuthorizationRules shows the rule.")
	ErrAPINotFound = fault.New(fault.NotFound, "DatabaseError.RecordNotFound",
		"The Model API does not exist.", "Call ListHttpApis for the ids of this account.")
	ErrEnvironmentNotFound = fault.New(fault.NotFound, "NotFound.EnvironmentNotFound",
		"The Model API is not in this environment.", "Call GetHttpApi for its environments.")
)

// Kinds are the kinds of resources of this package.
var Kinds = []resource.Kind{
	{Name: "Consumer", Table: "consumer", Prefix: ids.Consumer, NotFound: notFound},
	{Name: "ConsumerGroup", Table: "consumer_group", Prefix: ids.ConsumerGroup, NotFound: groupNotFound},
}

// Where a request carries a consumer's key.
const (
	Default     = "Default" // Authorization: Bearer
	Header      = "Header"
	QueryString = "QueryString"
)

// Who chose a key.
const (
	System = "System"
	Custom = "Custom"
)

// The kinds of keys that tokens are signed with.
const (
	Symmetry  = "Symmetry"  // shared secrets
	Asymmetry = "Asymmetry" // public keys
)

// Where a request carries a token.
const (
	InHeader = "HEADER"
	InQuery  = "QUERY"
)

// Consumer is a caller of Model APIs, recognised by its keys, its tokens or its signatures.
type Consumer struct {
	ID          string
	Name        string
	Description string
	Enabled     bool
	KeySource   string
	KeyName     string         // of the header or query parameter
	Keys        []Key          // Get alone reads what it proves itself with
	Token       *TokenIdentity // nil: it has none
	AccessKeys  []AccessKey
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Key is one key of a consumer.
type Key struct {
	Secret       secret.Secret
	GenerateMode string // System or Custom
}

// TokenIdentity is how a consumer is recognised by JSON Web Tokens: by a claim, in a token that one of its keys has signed.
type TokenIdentity struct {
	SecretType string        // Symmetry or Asymmetry
	KeySet     secret.Secret // a JSON Web Key Set; in a change, what was shown of it, or nothing, means the one that is there
	Shown      string        // the KeySet without secrets, for reads
	Claim      string        // "": uid
	Value      string        // of the claim; no other consumer of the account has both
	Position   string        // InHeader or InQuery; "": InHeader
	Name       string        // of the header or query parameter; "": Authorization
	Prefix     *string       // the word before the token in a header; nil: Bearer
	Issuer     string        // what iss must be; "": it is not looked at
	Audience   string        // what aud must hold; "": it is not looked at
	Unserved   string        // the parameter that asks for what is not served, which is refused
}

// AccessKey is a key that a consumer signs requests with.
type AccessKey struct {
	ID           string // no other consumer of the account has it
	Secret       secret.Secret
	GenerateMode string // System or Custom
}

// Spec is what a caller asks Create for.
type Spec struct {
	Name        string
	Description string
	Enabled     *bool  // nil: true
	KeySource   string // "": Default
	KeyName     string
	Keys        []Key // a System key is generated, a Custom one is given
	Token       *TokenIdentity
	AccessKeys  []AccessKey // as Keys
}

// Change is what a caller asks Update for; nil keeps what is there. Keys are replaced as a whole: a key of the consumer
// that is given again stays, a System key without a secret is a new one. So are access keys, for which the ID says which
// is meant. An empty Token takes the token identity away.
type Change struct {
	Description *string
	Enabled     *bool
	KeySource   *string
	KeyName     *string
	Keys        *[]Key
	Token       *TokenIdentity
	AccessKeys  *[]AccessKey
}

// Filter narrows a list of consumers; empty fields do not.
type Filter struct {
	NameLike string
	Page     instance.Page
}

// Group is a set of consumers that rules name as one.
type Group struct {
	ID          string
	Name        string
	Description string
	Members     int
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// GroupChange is what a caller asks UpdateGroup for; nil keeps what is there.
type GroupChange struct {
	Name        *string
	Description *string
}

// RuleSpec asks for one authorization: of a consumer or a group, not both.
type RuleSpec struct {
	ConsumerID    string
	GroupID       string
	ResourceType  string // LLM
	APIID         string
	EnvironmentID string // "": the one the Model API is in
	ExpireMode    string // "" or LongTerm
}

// Rule lets a consumer, or the members of a group, call a Model API.
type Rule struct {
	ID               string
	ConsumerID       string // "" when it is a group's
	ConsumerName     string
	ConsumerEnabled  bool
	GroupID          string // "" when it is a consumer's
	GroupName        string
	APIID            string
	APIName          string
	EnvironmentID    string
	EnvironmentName  string
	EnvironmentAlias string
	GatewayID        string
	GatewayName      string
	CreatedAt        time.Time
	UpdatedAt        time.Time
}

// PrincipalType is Consumer or ConsumerGroup.
func (r Rule) PrincipalType() string {
	if r.GroupID != "" {
		return OfGroup
	}
	return OfConsumer
}

// What a rule can be of.
const (
	OfConsumer = "Consumer"
	OfGroup    = "ConsumerGroup"
)

// ModelAPI is the type of the resource that a rule is about.
const ModelAPI = "LLM"

// RuleFilter narrows a list of rules; empty fields do not.
type RuleFilter struct {
	ConsumerID       string // its own rules; those of its groups have the group's id
	GroupID          string
	PrincipalType    string
	ConsumerNameLike string
	APINameLike      string
	APIID            string
	EnvironmentID    string
	Page             instance.Page
}

// Consumers are the consumers, groups and rules of one installation.
type Consumers struct {
	db       *pgxpool.Pool
	jobs     *jobs.Client
	master   *secret.Box
	snapshot *secret.Box
}

// Config is what New needs.
type Config struct {
	DB       *pgxpool.Pool
	Jobs     *jobs.Client
	Master   *secret.Box // seals what the database holds
	Snapshot *secret.Box // seals what gateways read
}

// New returns the consumers that the database of c holds.
func New(c Config) *Consumers { return &Consumers{c.DB, c.Jobs, c.Master, c.Snapshot} }
