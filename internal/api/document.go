package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// operation is what the document says about one operation.
type operation struct {
	product     string
	name        string
	schema      *openapi3.Schema // of the parameters
	action      string           // of x-ram
	arn         arnTemplate
	also        []arnTemplate // of other resources that the action must be allowed on
	self        bool          // about the caller alone: no policy is asked
	optional    []string      // further actions a handler may ask about
	further     []string      // other operations of the product that a handler may require the right for
	siblings    map[string]*operation
	mutates     bool
	creates     bool
	clientToken bool
	streams     bool   // its answer is a stream of events
	tokenParam  string // how the product spells ClientToken
	place       *place // nil: it is called by its name
	handler     http.Handler
}

// fullName is PRODUCT:OPERATION, which is also the RAM action.
func (o *operation) fullName() string { return o.product + ":" + o.name }

// LoadDocument reads an OpenAPI document and those it refers to, all from files.
func LoadDocument(files fs.FS, name string) (*openapi3.T, error) {
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true
	loader.ReadFromURIFunc = func(_ *openapi3.Loader, location *url.URL) ([]byte, error) {
		return fs.ReadFile(files, location.Path)
	}
	document, err := loader.LoadFromURI(&url.URL{Path: name})
	if err != nil {
		return nil, fmt.Errorf("load the document %s: %w", name, err)
	}
	if err := document.Validate(loader.Context); err != nil {
		return nil, fmt.Errorf("the document %s is not valid: %w", name, err)
	}
	return document, nil
}

// operations reads every operation of a product's document. It returns all that is missing in it together.
func operations(product Product) (map[string]*operation, error) {
	found := map[string]*operation{}
	var complaints []error
	for path, item := range product.Document.Paths.Map() {
		read := readOperation
		if product.Paths {
			read = pathOperations
		}
		ops, err := read(product.Name, path, item)
		if err != nil {
			complaints = append(complaints, fmt.Errorf("%s %s: %w", product.Name, path, err))
			continue
		}
		for _, op := range ops {
			op.handler, op.siblings = product.Handler, found
			found[op.name] = op
		}
	}
	for _, op := range found {
		for _, name := range op.further {
			if found[name] == nil {
				complaints = append(complaints, fmt.Errorf("%s %s: further names %q, which is no operation", product.Name, op.name, name))
			}
		}
	}
	return found, errors.Join(complaints...)
}

func readOperation(product, path string, item *openapi3.PathItem) ([]*operation, error) {
	if item.Post == nil || len(item.Operations()) != 1 {
		return nil, errors.New("an RPC operation is a POST")
	}
	body := item.Post.RequestBody
	if body == nil || body.Value.Content.Get("application/json") == nil {
		return nil, errors.New("an RPC operation has a JSON body")
	}
	if item.Post.Extensions["x-refused"] != nil {
		return nil, errors.New("x-refused is for operations that are paths")
	}
	op := &operation{
		product: product, name: item.Post.OperationID, tokenParam: "ClientToken",
		schema: body.Value.Content.Get("application/json").Schema.Value,
	}
	if path != "/"+op.name {
		return nil, fmt.Errorf("the operationId is %q", op.name)
	}
	return []*operation{op}, op.readExtensions(item.Post.Extensions)
}

func (o *operation) readExtensions(extensions map[string]any) error {
	o.clientToken, _ = extensions["x-client-token"].(bool)
	ram, ok := extensions["x-ram"].(map[string]any)
	if !ok {
		return errors.New("x-ram is missing")
	}
	return o.readRAM(ram)
}

func (o *operation) readRAM(ram map[string]any) error {
	text := func(key string) string { value, _ := ram[key].(string); return value }
	if o.action = text("action"); o.action != o.fullName() {
		return fmt.Errorf("the action of x-ram is %q", o.action)
	}
	switch text("level") {
	case "get", "list":
	case "create":
		o.mutates, o.creates = true, true
	case "update", "delete":
		o.mutates = true
	default:
		return fmt.Errorf("the level of x-ram is %q", text("level"))
	}
	o.arn = arnTemplate(text("arn"))
	if text("resource") == "*" {
		o.arn = "*"
	}
	optional, _ := ram["optional"].([]any)
	for _, action := range optional {
		o.optional = append(o.optional, fmt.Sprint(action))
	}
	further, _ := ram["further"].([]any)
	for _, name := range further {
		o.further = append(o.further, fmt.Sprint(name))
	}
	o.self, _ = ram["self"].(bool)
	also, _ := ram["also"].([]any)
	for _, arn := range also {
		template := arnTemplate(fmt.Sprint(arn))
		kind, _, _ := strings.Cut(string(template)[strings.LastIndex(string(template), ":")+1:], "/")
		if err := template.check(kind, o.schema); err != nil {
			return err
		}
		o.also = append(o.also, template)
	}
	return o.arn.check(text("resource"), o.schema)
}

// arnTemplate is an ARN with {region}, {account} and {Field}, or "*".
type arnTemplate string

func (t arnTemplate) check(kind string, schema *openapi3.Schema) error {
	if t == "*" {
		return nil
	}
	parts := strings.SplitN(string(t), ":", 5)
	if t == "{"+roleARN+"}" && schema.Properties[roleARN] != nil {
		return nil
	}
	if len(parts) != 5 || parts[0] != "acs" || parts[3] != "{account}" || kind == "" || !strings.HasPrefix(parts[4], kind+"/") {
		return fmt.Errorf("the arn of x-ram is %q", string(t))
	}
	if field, ok := t.field(); ok && (schema.Properties[field] == nil || arnParts[field] == nil) {
		return fmt.Errorf("the arn of x-ram names %q, which is no id among the parameters", field)
	}
	return nil
}

// field returns the parameter that ends the ARN, or is it.
func (t arnTemplate) field() (string, bool) {
	_, last, _ := strings.Cut("/"+strings.TrimPrefix(string(t), "/"), "/{")
	return strings.CutSuffix(last, "}")
}
