package route

import (
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/snapshot"
)

// EnginePath begins all that engines of ours are asked for.
const EnginePath = "/v1/"

var reserved = []string{"/services", "/public", "/operator"}

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

// Written is the model that is written over the one a request names; "" leaves that.
func (r *Route) Written() string {
	if r.Model == "" {
		return ""
	}
	return r.Targets[0].Model
}

// Meant is the model that the service is asked for by a request that names this one, or "": what is written over it, or
// where none is named in JSON the service's default.
func (r *Route) Meant(named string, of *snapshot.AIService) string {
	switch {
	case r.Model == "":
		return ""
	case r.Written() != "":
		return r.Written()
	case named == "" && r.Model == "json":
		return of.DefaultModel
	}
	return named
}
