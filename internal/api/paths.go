package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/api/rpc"
	"github.com/engineshed/engineshed/internal/api/strictjson"
	"github.com/engineshed/engineshed/internal/fault"
)

// place is what makes an operation one of a path-style product: it is found by method and path, and its parameters
// travel in the path, the query and the body. No name is in two of them, so that all are one set for the steps.
type place struct {
	method   string
	segments []string         // of the path; {name} is a parameter
	query    *openapi3.Schema // of the parameters in the query, as one object
	json     map[string]bool  // those of them that travel as JSON
	body     *openapi3.Schema // nil: the operation takes none
	refused  refused
}

// pathOperations reads the operations of one path of a path-style product's document.
func pathOperations(product, path string, item *openapi3.PathItem) ([]*operation, error) {
	var found []*operation
	var complaints []error
	for method, described := range item.Operations() {
		op, err := pathOperation(product, method, path, described)
		if err != nil {
			complaints = append(complaints, fmt.Errorf("%s %s: %w", method, path, err))
		}
		found = append(found, op)
	}
	return found, errors.Join(complaints...)
}

func pathOperation(product, method, path string, described *openapi3.Operation) (*operation, error) {
	op := &operation{product: product, name: described.OperationID, tokenParam: "clientToken", schema: openapi3.NewObjectSchema()}
	op.place = &place{method: method, segments: segments(path), query: openapi3.NewObjectSchema(), json: map[string]bool{}}
	var complaints []error
	var err error
	if op.place.refused, err = readRefused(described.Extensions); err != nil {
		complaints = append(complaints, err)
	}
	declare := func(into *openapi3.Schema, name string, ref *openapi3.SchemaRef, required bool) {
		if op.schema.Properties[name] != nil {
			complaints = append(complaints, fmt.Errorf("the parameter %s is in two places", name))
		}
		op.schema.WithPropertyRef(name, ref)
		if into != op.schema {
			into.WithPropertyRef(name, ref)
		}
		if required {
			op.schema.Required = append(op.schema.Required, name)
		}
	}
	for _, parameter := range described.Parameters {
		switch p := parameter.Value; {
		case p.In == openapi3.ParameterInPath:
			declare(op.schema, p.Name, p.Schema, true)
		case p.In == openapi3.ParameterInQuery && p.Content.Get("application/json") != nil:
			declare(op.place.query, p.Name, p.Content.Get("application/json").Schema, p.Required)
			op.place.json[p.Name] = true
		case p.In == openapi3.ParameterInQuery:
			declare(op.place.query, p.Name, p.Schema, p.Required)
		default:
			complaints = append(complaints, fmt.Errorf("the parameter %s is neither in the path nor in the query", p.Name))
		}
	}
	if described.RequestBody != nil {
		op.place.body = described.RequestBody.Value.Content.Get("application/json").Schema.Value
		for name, ref := range op.place.body.Properties {
			declare(op.schema, name, ref, slices.Contains(op.place.body.Required, name))
		}
	}
	slices.Sort(op.schema.Required)
	if success := described.Responses.Status(http.StatusOK); success != nil {
		op.streams = success.Value.Content["text/event-stream"] != nil
	}
	return op, errors.Join(append(complaints, op.readExtensions(described.Extensions))...)
}

func segments(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// match returns the path's parameters, each decoded once, if path is one of the operation. The path is as it was sent
// and signed: nothing in it was decoded before it is taken apart.
func (p *place) match(path string) (map[string]any, bool) {
	parts := segments(path)
	if len(parts) != len(p.segments) {
		return nil, false
	}
	values := map[string]any{}
	for i, segment := range p.segments {
		name, isParameter := strings.CutPrefix(segment, "{")
		if !isParameter {
			if parts[i] != segment {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(parts[i])
		if err != nil {
			return nil, false
		}
		values[strings.TrimSuffix(name, "}")] = value
	}
	return values, true
}

func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// findByPath picks the operation by method and path. A signed action must be the operation's: a request is for what
// its sender meant or for nothing.
func (s served) findByPath(r *http.Request, verified signature.Verified) (*operation, error) {
	var elsewhere []string // the methods that the path is called with
	var found *operation
	parameters := 0 // in the path of what is found: of two operations the one with fewer is meant
	for _, op := range s.operations {
		values, ok := op.place.match(rawPath(r))
		switch {
		case !ok:
		case op.place.method != r.Method:
			elsewhere = append(elsewhere, op.place.method)
		case found == nil || len(values) < parameters:
			found, parameters = op, len(values)
		}
	}
	switch {
	case found == nil && elsewhere != nil:
		slices.Sort(elsewhere)
		return nil, signature.ErrMethod.Withf("This path is called with %s.", strings.Join(slices.Compact(elsewhere), ", "))
	case found == nil:
		return nil, errAction.Withf("There is no operation at this path in %s %s.", s.Name, s.Version)
	case verified.Action != found.name && (verified.Action != "" || verified.Dialect != signature.ROAV1):
		return nil, errAction.Withf("The request was signed for %q, and its method and path are those of %s.", verified.Action, found.name)
	}
	return found, nil
}

// read returns the parameters of a request to the path.
func (p *place) read(r *http.Request, body []byte, verified signature.Verified) (map[string]any, error) {
	params, _ := p.match(rawPath(r))
	for name, value := range params {
		if err := strictjson.Text(value.(string)); err != nil {
			return nil, fault.InvalidParameter(name, err.Error()+".")
		}
	}
	if err := p.refused.checkQuery(verified.Params); err != nil {
		return nil, err
	}
	if dry, err := strconv.ParseBool(verified.Params.Get(dryRun)); err == nil && dry && p.query.Properties[dryRun] == nil {
		return nil, errDryRun
	}
	query, err := rpc.Decode(p.query, verified.Params)
	if err != nil {
		return nil, err
	}
	maps.Copy(params, query)
	members, err := p.readBody(r, body)
	maps.Copy(params, members)
	return params, err
}

func (p *place) readBody(r *http.Request, body []byte) (map[string]any, error) {
	switch {
	case len(body) == 0:
		return nil, nil
	case p.body == nil:
		return nil, fault.ErrInvalid.Withf("This operation takes no request body.")
	case mediaType(r) != "application/json":
		return nil, signature.ErrContentType.Withf("The Content-Type of a request to this path must be application/json.")
	}
	members, err := decodeObject(body)
	if err != nil {
		return nil, err
	}
	if err := p.refused.checkBody(members); err != nil {
		return nil, err
	}
	if members[dryRun] == true && p.body.Properties[dryRun] == nil {
		return nil, errDryRun
	}
	declared, _ := prune(p.body, members).(map[string]any)
	return declared, nil
}

// dryRun is how newer clients ask what a call would do. Of all that a document does not declare it alone is not
// ignored: the call would be made in earnest.
const dryRun = "dryRun"

var errDryRun = fault.New(fault.Invalid, "UnsupportedParameter",
	"The parameter dryRun is not served, and nothing was done.", "Leave it out to make the call in earnest.")

// prune drops the members that a schema does not declare, because clients of different ages send different ones, and
// those that are null, which says the same as absent.
func prune(schema *openapi3.Schema, value any) any {
	switch value := value.(type) {
	case []any:
		if schema.Items != nil {
			for i := range value {
				value[i] = prune(schema.Items.Value, value[i])
			}
		}
	case map[string]any:
		for name, member := range value {
			switch property, declared := schema.Properties[name]; {
			case member == nil, !declared && schema.Properties != nil:
				delete(value, name)
			case declared:
				value[name] = prune(property.Value, member)
			}
		}
	}
	return value
}

// request makes the request that the generated handler understands, from validated parameters.
func (p *place) request(ctx context.Context, params map[string]any) (*http.Request, error) {
	rest := maps.Clone(params)
	var path strings.Builder
	for _, segment := range p.segments {
		if name, isParameter := strings.CutPrefix(segment, "{"); isParameter {
			name = strings.TrimSuffix(name, "}")
			segment = url.PathEscape(fmt.Sprint(rest[name]))
			delete(rest, name)
		}
		path.WriteString("/" + segment)
	}
	query := url.Values{}
	for name := range p.query.Properties {
		value, ok := rest[name]
		switch {
		case !ok:
		case p.json[name]:
			text, err := json.Marshal(value)
			if err != nil {
				return nil, fmt.Errorf("encode the parameter %s: %w", name, err)
			}
			query.Set(name, string(text))
		default:
			query.Set(name, queryText(value))
		}
		delete(rest, name)
	}
	body, err := json.Marshal(rest)
	if err != nil {
		return nil, fmt.Errorf("encode the body: %w", err)
	}
	return http.NewRequestWithContext(ctx, p.method, path.String()+"?"+query.Encode(), bytes.NewReader(body))
}

func queryText(value any) string {
	switch value := value.(type) {
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64)
	case []any:
		items := make([]string, len(value))
		for i, item := range value {
			items[i] = queryText(item)
		}
		return strings.Join(items, ",")
	}
	return fmt.Sprint(value)
}
