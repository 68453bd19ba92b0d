package modelapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// Question is a request that Decide explains.
type Question struct {
	Method     string // "": POST
	Scheme     string // http, https; "": http
	Host       string // as in a Host header
	Path       string // as it is sent, perhaps with a query
	Headers    map[string]string
	Model      string // that the request names
	ConsumerID string // who proves to be the caller, as the API wants it; "": nobody
}

// The verdicts on a request's consumer.
const (
	NotRequired = "NotRequired" // everybody may call
	Allowed     = "Allowed"
	NoKey       = "NoKey"     // the request carries nothing of the API's kind that gateways know: key, token or signature
	Forbidden   = "Forbidden" // the consumer has no authorization rule
)

// Decision is what a gateway does with a request, as far as what is published says.
type Decision struct {
	Status        int    // of a refusal; 200: it is forwarded
	Code          string // of a refusal, as gateways answer it
	Reason        string // for people
	Path          string // canonical
	Allow         string // the methods there are, with 405
	API           *snapshot.ModelAPI
	Route         *snapshot.Route
	Authorization string // "": it did not come to that
	Scene         string // how Service is chosen; "": it did not come to that
	Service       *snapshot.AIService
	Shares        []Share          // of ByRatio: all services, of which Service is the first
	Candidates    []Candidate      // of the scenes by what gateways observe: all services, of which Service is the first
	UpstreamPath  string           // what the service is asked for
	Model         string           // that the service is asked for; "": the request names none, or its route does not look
	Fallback      *DecidedFallback // nil: none
	Limits        *snapshot.Limits // nil: the gateway's own
	Policies      []string         // in force for the route
}

// Decide explains what gateways do with a request to one of the account's APIs. It looks at what is published alone,
// with the matcher that gateways have.
func (a *APIs) Decide(ctx context.Context, accountID string, q Question) (d Decision, err error) {
	q.Method, q.Scheme = cmp.Or(q.Method, "POST"), cmp.Or(q.Scheme, "http")
	err = pgx.BeginTxFunc(ctx, a.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		d, err = a.decide(ctx, tx, accountID, q)
		return err
	})
	return d, err
}

func (d *Decision) refuse(status int, code, reason string) {
	d.Status, d.Code, d.Reason = status, code, reason
}

func (a *APIs) decide(ctx context.Context, tx pgx.Tx, accountID string, q Question) (d Decision, err error) {
	who, err := publishedConsumer(ctx, tx, accountID, q.ConsumerID)
	if err != nil {
		return d, err
	}
	target, query, _ := strings.Cut(q.Path, "?")
	path, ok := route.Canonical(target)
	d.Path = path
	switch {
	case !ok:
		d.refuse(400, "invalid_url", "The path has no canonical form: it does not begin with /, or has a broken escape, empty or dot segments or control characters, however they are escaped.")
		return d, nil
	case route.Reserved(path):
		d.refuse(404, "unknown_url", "Model APIs are not served at this path: it is reserved, as for model services.")
		return d, nil
	}
	request := &route.Request{
		Host: route.Host(q.Host), Scheme: q.Scheme, Method: q.Method, Path: path, Query: query, Header: header(q.Headers),
	}
	domains, err := domainsFor(ctx, tx, request.Host)
	if err != nil {
		return d, err
	}
	if domain, ok := domains.Find(request.Host); ok && domain.ForceHTTPS && q.Scheme == "http" {
		d.refuse(308, "https_required", "The domain "+domain.Name+" is served over HTTPS only: the client is sent there.")
		return d, nil
	}
	table, err := a.tableFor(ctx, tx, request, domains)
	if err != nil {
		return d, err
	}
	if !d.match(table, request, accountID) {
		return d, nil
	}
	if d.Policies, err = policiesInForce(ctx, tx, d.API, d.Route); err != nil || !d.authorize(who, q.ConsumerID) {
		return d, err
	}
	return d, d.forward(ctx, tx, table.Find(request), q)
}

func header(values map[string]string) map[string][]string {
	canonical := make(map[string][]string, len(values))
	for name, value := range values {
		canonical[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	return canonical
}

// match finds API and route. An API of another account is not there.
func (d *Decision) match(table *route.Table, request *route.Request, accountID string) bool {
	found := table.Find(request)
	if found.API == nil || found.API.AccountID != accountID {
		d.refuse(404, "unknown_url", "No Model API of this account answers at this host under a base path that the path begins with.")
		if found := table.Find(otherScheme(request)); found.API != nil && found.API.AccountID == accountID {
			d.Reason = "The Model API " + found.API.Name + " answers here, but not over " + request.Scheme + "."
		}
		return false
	}
	d.API, d.Limits = found.API.Published(), found.API.Limits
	switch {
	case found.Route == nil && found.Allow != "":
		d.refuse(405, "method_not_allowed", "The path takes other methods: "+found.Allow+".")
		d.Allow = found.Allow
		return false
	case found.Route == nil:
		d.refuse(404, "unknown_url", "The Model API "+d.API.Name+" has no route for "+found.Path+" below its base path, with these headers and this query.")
		return false
	}
	d.Route = &found.Route.Route
	return true
}

func otherScheme(request *route.Request) *route.Request {
	other := *request
	other.Scheme = "https"
	if request.Scheme == "https" {
		other.Scheme = "http"
	}
	return &other
}

// authorize decides whether the consumer may call.
func (d *Decision) authorize(who *snapshot.Consumer, consumerID string) bool {
	proof := proofs[d.API.AuthType]
	switch {
	case !d.API.Auth:
		d.Authorization = NotRequired
	case consumerID == "":
		d.Authorization = NoKey
		d.refuse(401, proof.code, "Only consumers may call, and the request carries no "+proof.name+" of one.")
	case who == nil || !proof.has(who):
		d.Authorization = NoKey
		d.refuse(401, proof.code, "Gateways know no "+proof.name+" of the consumer: it has none, is disabled, or was made a moment ago.")
	case !slices.Contains(who.Allowed, d.API.ID):
		d.Authorization = Forbidden
		d.refuse(403, "consumer_not_authorized", "The consumer "+who.Name+" has no authorization rule for the Model API "+d.API.Name+".")
	default:
		d.Authorization = Allowed
	}
	return d.Status == 0
}

// proofs are what consumers prove who they are by, by AuthType, with the code of a refusal.
var proofs = map[snapshot.AuthType]struct {
	name, code string
	has        func(*snapshot.Consumer) bool
}{
	snapshot.AuthByKey:       {"key", "invalid_api_key", func(c *snapshot.Consumer) bool { return len(c.Keys) > 0 }},
	snapshot.AuthByToken:     {"token", "invalid_token", func(c *snapshot.Consumer) bool { return c.Token != nil }},
	snapshot.AuthBySignature: {"access key", "invalid_signature", func(c *snapshot.Consumer) bool { return len(c.AccessKeys) > 0 }},
}

// forward finds the service and what it is asked for.
func (d *Decision) forward(ctx context.Context, tx pgx.Tx, found route.Match, q Question) error {
	model := q.Model
	d.Scene = found.Route.Scene
	target, ok := found.Route.Pick(q.Method, model)
	if !ok {
		d.refuse(404, "model_not_found", fmt.Sprintf("The model %.128q matches no modelNamePattern of the route; those are %s.",
			model, strings.Join(patterns(found.Route.Targets), ", ")))
		return nil
	}
	service, known, err := publishedService(ctx, tx, target.ServiceID)
	if err != nil {
		return err
	}
	asked, ok := found.Asked(d.Path, service)
	if known && !ok {
		d.Service = service
		d.refuse(404, "unknown_url", "The model service "+service.ModelServiceID+" is asked for paths below "+route.EnginePath+" only, not for "+asked+".")
		return nil
	}
	if err := d.fallBack(ctx, tx, found, model); err != nil {
		return err
	}
	if !known {
		d.goOn(target.ServiceID)
		return nil
	}
	d.Service, d.UpstreamPath, d.Model = service, asked, found.Route.Meant(target, model, service)
	d.Status, d.Reason = 200, "The request is forwarded to the service "+service.Name+"."
	switch {
	case snapshot.Observed(d.Scene):
		d.Reason = fmt.Sprintf("The request is forwarded to one of %d services, the one that the gateway process observes to have %s; this is about the first, %s.",
			len(found.Route.Targets), observations[d.Scene], service.Name)
		return d.observe(ctx, tx, found.Route, model)
	case target.Weight > 0 && len(found.Route.Targets) > 1:
		d.Reason = fmt.Sprintf("The request is forwarded to one of %d services, in proportion to their weights; this is about the first, %s.",
			len(found.Route.Targets), service.Name)
		return d.share(ctx, tx, found.Route, model)
	case found.Route.ByModel(q.Method):
		d.Reason = "The request is forwarded to the service " + service.Name + ", the first whose modelNamePattern the model matches: " + target.Pattern + "."
	}
	return nil
}

func patterns(targets []snapshot.Target) []string {
	all := make([]string, len(targets))
	for i, t := range targets {
		all[i] = t.Pattern
	}
	return all
}

// published reads the body of a published item into what it describes.
func published(ctx context.Context, tx pgx.Tx, kind, id string, into any) (bool, error) {
	var body []byte
	err := tx.QueryRow(ctx, `
		SELECT body FROM published_item WHERE kind = $1 AND id = $2 AND NOT deleted`, kind, id).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the published %s %s: %w", kind, id, err)
	}
	return true, json.Unmarshal(body, into)
}

// publishedConsumer returns what gateways know of the account's consumer; nil: nothing.
func publishedConsumer(ctx context.Context, tx pgx.Tx, accountID, id string) (*snapshot.Consumer, error) {
	if id == "" {
		return nil, nil
	}
	found, err := existing(ctx, tx, `SELECT id FROM consumer WHERE id = $1 AND account_id = $2`, id, accountID)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, consumer.ErrNotFound.Withf("The consumer %.64q does not exist. Call ListConsumers for the ids of this account.", id)
	}
	who := new(snapshot.Consumer)
	if known, err := published(ctx, tx, snapshot.KindConsumer, id, who); err != nil || !known {
		return nil, err
	}
	return who, nil
}

// domainsFor are the published domains that could be the host's, by their names.
func domainsFor(ctx context.Context, tx pgx.Tx, host string) (route.Hosts[*snapshot.Domain], error) {
	bodies, err := publishedBodies(ctx, tx, `
		SELECT p.body FROM domain d JOIN published_item p ON p.kind = $1 AND p.id = d.id AND NOT p.deleted
		WHERE d.name = ANY ($2)`, snapshot.KindDomain, namesOf(host))
	if err != nil {
		return nil, fmt.Errorf("read the published domains: %w", err)
	}
	domains := route.Hosts[*snapshot.Domain]{}
	for _, body := range bodies {
		domain := new(snapshot.Domain)
		if err := json.Unmarshal(body, domain); err != nil {
			return nil, err
		}
		domains[domain.Name] = domain
	}
	return domains, nil
}

// namesOf are the host and the wildcards that it falls under.
func namesOf(host string) []string {
	all := []string{host}
	for rest := host; ; {
		_, after, more := strings.Cut(rest, ".")
		if !more {
			return all
		}
		all, rest = append(all, "*."+after), after
	}
}

func publishedBodies(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([][]byte, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[[]byte])
}

// tableFor is the part of a gateway's table in which the host and the path are looked up: of all accounts, because theirs
// stand in each other's way. A gateway that serves one gateway alone has less.
func (a *APIs) tableFor(ctx context.Context, tx pgx.Tx, r *route.Request, domains route.Hosts[*snapshot.Domain]) (*route.Table, error) {
	environment, _, _ := strings.Cut(r.Host, ".")
	bodies, err := publishedBodies(ctx, tx, `
		SELECT p.body FROM published_item p
		WHERE p.kind = $1 AND NOT p.deleted AND p.id IN (
			SELECT h.http_api_id FROM http_api_host h
			WHERE h.base_path = ANY ($2) AND coalesce(h.domain_id, h.environment_id) IN (
				SELECT id FROM domain WHERE name = ANY ($3)
				UNION ALL SELECT $4
				UNION ALL SELECT e.id FROM environment e JOIN gateway g ON g.id = e.gateway_id WHERE e.is_default AND g.is_default))`,
		snapshot.KindModelAPI, basePathsOf(r.Path), namesOf(r.Host), environment)
	if err != nil {
		return nil, fmt.Errorf("read the published Model APIs: %w", err)
	}
	// A host is some API's even where none has a base path that fits.
	claimed, err := existing(ctx, tx, `
		SELECT $3 WHERE EXISTS (
			SELECT FROM http_api_host h JOIN published_item p ON p.kind = $1 AND p.id = h.http_api_id AND NOT p.deleted
			WHERE h.environment_id = $2)`, snapshot.KindModelAPI, environment, strings.ToLower(a.subDomain(environment)))
	if err != nil {
		return nil, err
	}
	for name := range domains {
		claimed = append(claimed, name)
	}
	compiled, err := compileAll(bodies)
	return route.NewTable(slices.Values(compiled), claimed), err
}

// basePathsOf are the base paths that a canonical path lies below.
func basePathsOf(path string) []string {
	all := []string{"/"}
	for end := 1; end <= len(path); end++ {
		if end == len(path) || path[end] == '/' {
			all = append(all, path[:end])
		}
	}
	return all
}

func compileAll(bodies [][]byte) ([]*route.API, error) {
	compiled := make([]*route.API, len(bodies))
	for i, body := range bodies {
		api := new(snapshot.ModelAPI)
		err := json.Unmarshal(body, api)
		if err == nil {
			compiled[i], err = route.Compile(api)
		}
		if err != nil {
			return nil, err
		}
	}
	return compiled, nil
}

// policiesInForce are the policies that are on in the revision that gateways serve, the API's and then the route's.
func policiesInForce(ctx context.Context, tx pgx.Tx, api *snapshot.ModelAPI, r *snapshot.Route) ([]string, error) {
	served, err := revision(ctx, tx, api.ID, api.Revision)
	if errors.Is(err, ErrRevisionNotFound) { // the API is being deleted
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	policies := served.Content.DeployConfig.PolicyConfigs
	for _, known := range served.Content.Routes {
		if known.ID == r.ID {
			policies = append(slices.Clone(policies), known.PolicyConfigs...)
		}
	}
	var on []string
	for _, p := range policies {
		if !p.Enable || slices.Contains(on, p.Type) || p.Type == PolicyAiFallback && r.Fallback == nil {
			continue // or it is for routes whose requests name a model, which those of this one do not
		}
		on = append(on, p.Type)
	}
	return on, nil
}

// Published returns what gateways are given of the account's API; nil when it is not published.
func (a *APIs) Published(ctx context.Context, accountID, id string) (api *snapshot.ModelAPI, err error) {
	err = pgx.BeginTxFunc(ctx, a.db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := exists(ctx, tx, accountID, id); err != nil {
			return err
		}
		found := new(snapshot.ModelAPI)
		known, err := published(ctx, tx, snapshot.KindModelAPI, id, found)
		if known {
			api = found
		}
		return err
	})
	return api, err
}
