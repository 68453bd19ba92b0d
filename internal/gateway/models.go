package gateway

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/glob"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// modelsPath is where OpenAI clients ask which models there are.
const modelsPath = "/v1/models"

// defaultModel is what a request is for that names no model; "": nothing.
func (c *call) defaultModel() string {
	if c.route.Model != snapshot.ModelInJSON || c.upstream == nil {
		return ""
	}
	return c.upstream.DefaultModel
}

// listedModel is a model as OpenAI's API shows it.
type listedModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// models are those that the API is known to serve: what is written over the requests' own, or the service's default, or
// what the engines of ours run.
func (c *call) models() (models []listedModel) {
	for _, target := range c.route.Targets {
		name, owner := target.Model, c.api.Name
		if target.Pattern != "" {
			name = "" // what is asked for is another name than what is written over it
		}
		if !strings.ContainsAny(target.Pattern, "*?") {
			name = cmp.Or(target.Pattern, name)
		}
		if u := c.cfg.Upstream(target.ServiceID); u != nil {
			owner = u.Name
			if name == "" {
				name = u.DefaultModel
			}
			if s := c.cfg.Service(u.ModelServiceID); s != nil && name == "" {
				name = s.ModelName
			}
		}
		if target.Pattern != "" && !glob.Match(target.Pattern, name) {
			continue
		}
		if name != "" && !slices.ContainsFunc(models, func(m listedModel) bool { return m.ID == name }) {
			models = append(models, listedModel{name, "model", 0, owner})
		}
	}
	return models
}

// answerModels answers for a service that has no list of models. A service that has one answers for itself.
func (c *call) answerModels(resp *http.Response) {
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
	default:
		return
	}
	if c.api == nil || c.in.Method != http.MethodGet || c.route.Path != modelsPath {
		return
	}
	models := c.models()
	var answer any = struct {
		Object string        `json:"object"`
		Data   []listedModel `json:"data"`
	}{"list", models}
	if _, id, ok := strings.Cut(c.in.URL.EscapedPath(), modelsPath+"/"); ok && id != "" {
		id, _ = url.PathUnescape(id)
		at := slices.IndexFunc(models, func(m listedModel) bool { return m.ID == id })
		if at < 0 {
			return
		}
		answer = models[at]
	} else if len(models) == 0 {
		return
	}
	body, _ := json.Marshal(answer) // strings never fail
	_ = resp.Body.Close()
	resp.StatusCode, resp.Status = http.StatusOK, ""
	resp.ContentLength, resp.TransferEncoding, resp.Trailer = int64(len(body)), nil, nil
	resp.Header = http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}}
	resp.Body = io.NopCloser(bytes.NewReader(body))
}
