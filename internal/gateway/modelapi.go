package gateway

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/gateway/model"
	"github.com/engineshed/engineshed/internal/gateway/upstream"
	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// maxStreamed bounds the bodies of routes that name no model: files, which pass without being kept.
const maxStreamed = 512 << 20

// admitAPI finds the Model API and the route, and decides whether the caller may use it.
func (c *call) admitAPI(cfg *config.Config, path string) *refusal {
	host := route.Host(c.in.Host)
	scheme := "http"
	if c.in.TLS != nil {
		scheme = "https"
	} else if d := cfg.Domain(host); d != nil && d.ForceHTTPS {
		return c.redirect(host, path)
	}
	found := cfg.Find(&route.Request{
		Host: host, Scheme: scheme, Method: c.in.Method, Path: path, Query: c.in.URL.RawQuery, Header: c.in.Header,
	})
	if found.API == nil {
		return errUnknownURL
	}
	c.asked = found.API
	if c.asked.Statistics != nil {
		c.span = c.tracer.Start(c.in.Context(), c.in.Header, c.began)
	}
	if found.Route == nil {
		c.protocol = found.API.Protocols[0]
		if found.Allow != "" {
			return refuseMethod(found.Allow)
		}
		return errNoRoute
	}
	c.route, c.protocol = found.Route, found.Route.Protocol
	c.ways = cfg.Ways(found.API.ID)
	if found.API.Auth {
		if refused := c.identify(cfg, found.API); refused != nil {
			return refused
		}
	}
	c.api, c.traffic = found.API, found.API.Traffic
	switch {
	case c.in.ContentLength > c.limit():
		return errTooLarge
	case c.route.Model != "" && c.in.Header["Content-Encoding"] != nil:
		return errEncoded
	}
	c.cfg, c.canonical, c.match = cfg, path, found.Match
	if c.route.ByModel(c.in.Method) {
		return nil // the body says which
	}
	return c.choose("")
}

// redirect sends a client to the same place over HTTPS. The host is one of our domains, the path is canonical.
func (c *call) redirect(host, path string) *refusal {
	to := "https://" + host + c.httpsPort + path
	if query := c.in.URL.RawQuery; query != "" {
		to += "?" + query
	}
	return &refusal{
		status: http.StatusPermanentRedirect, kind: "invalid_request_error", code: "https_required",
		cause: "This domain is served over HTTPS only.", next: "Send the request to the Location.", header: http.Header{"Location": {to}},
	}
}

// choose finds the service for a request that names this model, or "". One that is missing is as good as one that fails
// when there is another to turn to.
func (c *call) choose(named string) *refusal {
	target, ok := c.pick(named)
	if !ok {
		return errNoModel
	}
	refused := c.turnTo(target)
	if refused != nil && refused.failure && c.route.Fallback != nil {
		c.missing, refused = refused, nil
	}
	return refused
}

// pick chooses one of the route's targets.
func (c *call) pick(named string) (snapshot.Target, bool) {
	observed := c.api.Observed(c.route)
	if observed == nil {
		return c.api.Pick(c.route, c.in.Method, named)
	}
	c.turn, c.chosen = observed.Pick(func(i int) *upstream.Health {
		if s := c.cfg.Standing(c.route.Targets[i].ServiceID); s != nil {
			return &s.Health
		}
		return nil
	}), true
	return c.route.Targets[c.turn.Target()], true
}

// turnTo makes the target the one that is asked, and finds what it is asked for.
func (c *call) turnTo(target snapshot.Target) *refusal {
	c.target, c.upstream = target, c.cfg.Upstream(target.ServiceID)
	if c.upstream == nil {
		return errNoService
	}
	var ok bool
	if c.path, ok = c.match.Asked(c.canonical, c.upstream.AIService); !ok {
		return errNoRoute
	}
	if c.upstream.ModelServiceID == "" {
		return nil
	}
	if c.service = c.cfg.Service(c.upstream.ModelServiceID); c.service == nil || len(c.service.Replicas) == 0 {
		return errNoReplica
	}
	return nil
}

// limit is how large the body of the request may be.
func (c *call) limit() int64 {
	if c.route != nil && c.route.Model == "" && c.signature == nil { // a signature says nothing before the whole body is there
		return max(maxStreamed, c.maxBody)
	}
	return c.maxBody
}

// readsModel reports whether the body names a model that is to be known, or is not the one that is meant, or may have to
// be sent again.
func (c *call) readsModel() bool {
	return c.route != nil && c.in.ContentLength != 0 &&
		(c.route.Model == snapshot.ModelInJSON || c.written() != "" || c.isOpen() || c.route.Fallback != nil)
}

// isOpen reports whether the request's model decides which service it goes to, and is not known yet.
func (c *call) isOpen() bool { return c.api != nil && c.target.ServiceID == "" }

// written is the model that is written over the one the request names; "" leaves that.
func (c *call) written() string { return c.route.Written(c.target) }

// readWhole takes the body in and writes what is to be written into it.
func (c *call) readWhole(w http.ResponseWriter) (refused *refusal) {
	if c.body, refused = c.take(w); refused != nil {
		return refused
	}
	if len(c.body) == 0 {
		c.in.Body = http.NoBody
		return nil
	}
	if c.isOpen() {
		named, err := c.model()
		if err != nil {
			return refuseModel(err)
		}
		if refused := c.choose(named); refused != nil {
			return refused
		}
	}
	return c.write()
}

// read reads the body as JSON, once.
func (c *call) read() (*model.Request, error) {
	if c.request == nil && c.unreadable == nil {
		c.request, c.unreadable = model.ReadJSON(c.body)
	}
	return c.request, c.unreadable
}

// form returns the boundary between the parts of a body that is a form.
func (c *call) form() (boundary string, ok bool) {
	header := c.in.Header.Get("Content-Type")
	if header == "application/json" { // nearly always; the parser would cost more than all else here
		return "", false
	}
	kind, parameters, _ := mime.ParseMediaType(header)
	return parameters["boundary"], kind == "multipart/form-data"
}

// model is the model that the body names, "" for none. It decides where the request goes, so that it must be readable in
// one way.
func (c *call) model() (string, error) {
	if boundary, ok := c.form(); ok {
		return model.ReadForm(c.body, boundary)
	}
	request, err := c.read()
	if err != nil {
		return "", err
	}
	return request.Model, request.CheckModel()
}

// write makes the body that the service is sent.
func (c *call) write() *refusal {
	var err error
	if c.pieces, err = c.edit(); err != nil {
		return refuseModel(err)
	}
	c.spliced = true
	return nil
}

// edit writes the model that is meant, or the service's default one where none is named, and has a stream tell its usage.
// A body that cannot be read is passed as it came when there is nothing to write: its service may know better.
func (c *call) edit() (model.Splice, error) {
	name := c.written()
	if boundary, ok := c.form(); ok && name != "" {
		return model.WriteForm(c.body, boundary, name)
	}
	request, err := c.read()
	if err == nil && name != "" {
		err = request.CheckModel()
	}
	switch {
	case err != nil && name == "" && (!c.tellsUsageWhenAsked() || !model.IsReadable(err)):
		return model.Splice{c.body}, nil
	case err != nil:
		return model.Splice{}, err
	}
	if name == "" && !request.NamesModel() {
		name = c.defaultModel()
	}
	c.strips = request.Stream && c.tellsUsageWhenAsked() && !request.AsksUsage()
	if name == "" {
		return request.Splice(nil, c.strips), nil
	}
	return request.Splice(&name, c.strips), nil
}

var (
	// passed are the headers of a client that reach the service of a Model API.
	passed = append([]string{
		"Accept-Language", "Content-Disposition", "Content-Encoding", "Content-Language", "Range", "If-Range", "If-Match",
		"If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Anthropic-Version", "Anthropic-Beta",
	}, forwarded...)
	// passedPrefixes begin headers of protocols, canonical.
	passedPrefixes = []string{"Openai-", "X-Dashscope-"}
	// choosesAccount are those among them by which a client says which part of its account it means: here the account is
	// the service's, and not its consumers' to choose from.
	choosesAccount = []string{"Openai-Organization", "Openai-Project", "X-Dashscope-Workspace"}
	// passedUpgrade belong to a WebSocket's handshake.
	passedUpgrade = []string{
		"Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions",
	}
	// withheldFromConsumers says whose account a service is used with, or is for pages and not for answers.
	withheldFromConsumers = []string{"Openai-Organization", "Openai-Project", "Content-Security-Policy", "Content-Security-Policy-Report-Only"}
)

// addressForAPI is address for the service of a Model API.
func (c *call) addressForAPI(out *http.Request) {
	client := c.in.Header
	out.Header = make(http.Header, 8)
	for _, name := range passed {
		copyValues(out.Header, client, name)
	}
	for name := range client {
		for _, prefix := range passedPrefixes {
			if strings.HasPrefix(name, prefix) && !slices.Contains(choosesAccount, name) {
				copyValues(out.Header, client, name)
			}
		}
	}
	if c.asksForWebSocket() {
		for _, name := range passedUpgrade {
			copyValues(out.Header, client, name)
		}
	}
	for _, name := range slices.Concat(c.ways.Keys.Headers, c.ways.Tokens.Headers) {
		delete(out.Header, name)
	}
	for name := range optionsOf(client["Connection"]) {
		if name != "Upgrade" {
			delete(out.Header, name)
		}
	}
	out.Header[requestIDHeader] = c.ids[:]
	c.span.Inject(out.Header)
	c.url = upstream.Escaped(c.path, withoutKeys(c.in.URL.RawQuery, slices.Concat(c.ways.Keys.Query, c.ways.Tokens.Query)))
	out.URL = &c.url
	if c.service != nil {
		return
	}
	for name, value := range c.upstream.Headers { // what the client says itself is meant: it reads answers of that version
		if name = http.CanonicalHeaderKey(name); out.Header[name] == nil {
			out.Header[name] = []string{value}
		}
	}
	if c.key = c.upstream.Key(); c.key != nil {
		out.Header[http.CanonicalHeaderKey(c.upstream.KeyHeader)] = c.key.Header()
	}
}

func copyValues(to, from http.Header, name string) {
	if values := from[name]; values != nil {
		to[name] = values
	}
}

// upgraded takes note of a connection that becomes a WebSocket, which the server forgets about. It is none of ours
// when the client did not ask for it.
func (c *call) upgraded(resp *http.Response) error {
	if resp.Request.Header["Upgrade"] == nil {
		return errors.New("the connection was upgraded unasked")
	}
	if end, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = serviceEnd{end}
	}
	c.websockets.Add(1)
	c.upgrade = true
	return nil
}
