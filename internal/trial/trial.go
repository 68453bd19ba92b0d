// Package trial sends a chat completion to a Model API through a gateway, as any client would, and tells how it goes.
package trial

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// ErrNotDeployed refuses a trial of what gateways do not serve.
var ErrNotDeployed = fault.New(fault.Conflict, "Conflict.HttpApiNotDeployed",
	"The Model API is not deployed, or was deployed a moment ago.", "Call DeployHttpApi, then try again.")

// path is what a trial asks for, below the base path.
const path = "/v1/chat/completions"

// APIs knows what is published.
type APIs interface {
	Published(ctx context.Context, accountID, id string) (*snapshot.ModelAPI, error)
	Decide(ctx context.Context, accountID string, q modelapi.Question) (modelapi.Decision, error)
}

// Consumers knows the keys of consumers.
type Consumers interface {
	Get(ctx context.Context, accountID, id string) (consumer.Consumer, error)
}

// Config is what New needs.
type Config struct {
	APIs      APIs
	Consumers Consumers
	Audit     audit.Execer
	Gateway   string // base URL of a gateway
}

// Trials sends requests through one gateway.
type Trials struct {
	Config
	client *http.Client
}

// New returns trials through the gateway of c.
func New(c Config) *Trials {
	transport := &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true}
	return &Trials{c, &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Spec is what a caller asks Start for.
type Spec struct {
	Domain     string // the host; "": one of the API's own
	Model      string
	Messages   []map[string]any
	Body       map[string]any // a whole request, which the rest is written into
	Stream     *bool
	Params     map[string]any
	ConsumerID string
}

// Event is one of its members.
type Event struct {
	Decision *modelapi.Decision
	Content  *Content
	Result   *Result
}

// Content is a piece of the answer.
type Content struct{ Text, Reasoning string }

// Result is how a trial went.
type Result struct {
	Status       int // of the gateway's answer; 0: none came
	RequestID    string
	FirstContent *time.Duration // nil: none came
	Total        time.Duration
	Usage        *Usage // nil: the service did not say
	FinishReason string
	Error        string // "": it went well
}

// Usage is what the service counted.
type Usage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	TotalTokens      int64 `json:"total_tokens"`
}

// Trial is a request that is ready to be sent.
type Trial struct {
	trials   *Trials
	decision modelapi.Decision
	refusal  string // why it is not sent
	host     string
	target   string
	key      *credential
	body     []byte
}

// Start prepares a trial of the account's API and writes its audit row.
func (t *Trials) Start(ctx context.Context, accountID, id string, spec Spec) (*Trial, error) {
	api, err := t.APIs.Published(ctx, accountID, id)
	switch {
	case err != nil:
		return nil, err
	case api == nil:
		return nil, ErrNotDeployed
	case api.Category != "Text" || !slices.Contains(api.Protocols, "OpenAI/v1"):
		return nil, fault.ErrUnsupported.Withf("Only Model APIs of the scenario Text that speak OpenAI/v1 can be debugged; %s is %s with %s.",
			api.Name, api.Category, strings.Join(api.Protocols, ", "))
	case api.Auth && api.AuthType != snapshot.AuthByKey:
		return nil, fault.ErrUnsupported.Withf("Only Model APIs whose callers have API keys, or prove nothing, can be debugged; those of %s prove "+
			"who they are by %s.", api.Name, api.AuthType)
	case api.Auth && spec.ConsumerID == "":
		return nil, fault.MissingParameter("consumerId")
	}
	trial := &Trial{trials: t, host: spec.Domain, target: strings.TrimSuffix(api.BasePath, "/") + path}
	if trial.host == "" {
		trial.host = ownHost(api)
	}
	if trial.key, err = t.keyOf(ctx, accountID, spec.ConsumerID); err != nil {
		return nil, err
	}
	if err := trial.decide(ctx, accountID, id, &spec); err != nil {
		return nil, err
	}
	if trial.body, err = spec.request(trial.decision.Model); err != nil {
		return nil, err
	}
	entry := audit.From(ctx)
	entry.ResourceID, entry.Outcome = id, audit.Done
	return trial, audit.Insert(ctx, t.Audit, entry)
}

// ownHost is a host that an API answers on: the environment's own when it has one, for it needs no DNS and no
// certificate.
func ownHost(api *snapshot.ModelAPI) string {
	exact := slices.DeleteFunc(slices.Clone(api.Hosts), func(host string) bool { return strings.HasPrefix(host, "*") })
	for _, host := range exact {
		if strings.HasPrefix(host, api.EnvironmentID+".") {
			return host
		}
	}
	if len(exact) > 0 {
		return exact[0]
	}
	return strings.Replace(api.Hosts[0], "*", "debug", 1)
}

// decide finds out where the request will go. It goes nowhere but to the API that was named.
func (t *Trial) decide(ctx context.Context, accountID, id string, spec *Spec) error {
	base, err := url.Parse(t.trials.Gateway)
	if err != nil {
		return err
	}
	model := spec.Model
	if named, ok := spec.Body["model"].(string); ok && model == "" {
		model = named
	}
	t.decision, err = t.trials.APIs.Decide(ctx, accountID, modelapi.Question{
		Method: http.MethodPost, Scheme: base.Scheme, Host: t.host, Path: t.target, Model: model, ConsumerID: spec.ConsumerID,
		Headers: map[string]string{"Content-Type": "application/json"},
	})
	switch {
	case err != nil:
		return err
	case t.decision.API == nil || t.decision.Status != http.StatusOK:
		t.refusal = t.decision.Reason
	case t.decision.API.ID != id:
		t.refusal = "The Model API " + t.decision.API.Name + " answers there, and not the one that was asked for."
	}
	return nil
}

// credential is a key and where a request carries it.
type credential struct{ source, name, key string }

// keyOf returns the key of the account's consumer; nil: it has none, or none is wanted.
func (t *Trials) keyOf(ctx context.Context, accountID, consumerID string) (*credential, error) {
	if consumerID == "" {
		return nil, nil
	}
	who, err := t.Consumers.Get(ctx, accountID, consumerID)
	if err != nil || len(who.Keys) == 0 {
		return nil, err
	}
	return &credential{who.KeySource, who.KeyName, who.Keys[0].Secret.Reveal()}, nil
}

// request is the body that is sent. A model is named if any is known: some services want one although it is written
// over.
func (s *Spec) request(decided string) ([]byte, error) {
	body := maps.Clone(s.Body)
	if body == nil {
		body = map[string]any{}
	}
	maps.Copy(body, s.Params)
	if s.Messages != nil {
		body["messages"] = s.Messages
	}
	if s.Stream != nil {
		body["stream"] = *s.Stream
	}
	switch {
	case s.Model != "":
		body["model"] = s.Model
	case body["model"] == nil && decided != "":
		body["model"] = decided
	}
	if stream, _ := body["stream"].(bool); stream && body["stream_options"] == nil {
		body["stream_options"] = map[string]any{"include_usage": true} // the tokens are part of the result
	}
	if body["messages"] == nil {
		return nil, fault.MissingParameter("messages")
	}
	return json.Marshal(body)
}
