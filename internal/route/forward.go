package route

import (
	"net/http"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/glob"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// EnginePath begins all that engines of ours are asked for.
const EnginePath = "/v1/"

// ReservedPaths lists the paths at and below which model services are served, and no Model API is.
func ReservedPaths() []string { return []string{"/services", "/public", "/operator"} }

var reserved = ReservedPaths()

// Reserved reports whether no Model API is served at the canonical path, on any host.
func Reserved(path string) bool {
	return slices.ContainsFunc(reserved, func(prefix string) bool {
		_, under := Below(path, prefix)
		return under
	})
}

// Asked is what the service is asked for when a request for the canonical path was matched so. The service's own name
// of the path replaces base path and all. The base path is not of our engines' world: they never see it, and they are
// asked for nothing outside theirs (false).
func (m Match) Asked(path string, of *snapshot.AIService) (string, bool) {
	asked := path
	if m.API.RemoveBasePath || of.ModelServiceID != "" {
		asked = m.Path
	}
	if name, ok := of.Paths[m.Route.Path]; ok {
		asked = name + m.Route.Rest(m.Path)
	}
	return asked, of.ModelServiceID == "" || strings.HasPrefix(asked, EnginePath)
}

// Pick returns the target of a request that names this model, or "": of the scene by model name the first whose pattern
// matches, and false when none does. Of the scene by proportion all are meant, and the first stands for them. Requests
// that have no place for a model go to the first as well.
func (r *Route) Pick(method, model string) (snapshot.Target, bool) {
	if !r.ByModel(method) {
		return r.Targets[0], true
	}
	for _, t := range r.Targets {
		if glob.Match(t.Pattern, model) {
			return t, true
		}
	}
	return snapshot.Target{}, false
}

// ByModel reports whether the model that a request of the method names decides where it goes. What has no body names
// none: to ask for a fine-tuning job, for example.
func (r *Route) ByModel(method string) bool {
	return r.Scene == snapshot.SceneByModelName && r.Model != "" &&
		(method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch)
}

// Written is the model that is written over the one a request for the target names; "" leaves that.
func (r *Route) Written(t snapshot.Target) string {
	if r.Model == "" {
		return ""
	}
	return t.Model
}

// Meant is the model that the service is asked for by a request that names this one, or "": what is written over it, or
// where none is named in JSON the service's default.
func (r *Route) Meant(t snapshot.Target, named string, of *snapshot.AIService) string {
	switch {
	case r.Model == "":
		return ""
	case r.Written(t) != "":
		return r.Written(t)
	case named == "" && r.Model == snapshot.ModelInJSON:
		return of.DefaultModel
	}
	return named
}
