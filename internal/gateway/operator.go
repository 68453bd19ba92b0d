package gateway

import (
	"cmp"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/gateway/model"
	"github.com/engineshed/engineshed/internal/route"
)

// operatorPath begins what is asked for with a ModelOperator key, of any model service of an account.
const operatorPath = "/operator"

// admitOperator decides whether the caller's key opens anything. Which service is meant is in the body, and the service's own
// IP array decides about the caller's address.
func (c *call) admitOperator(cfg *config.Config) *refusal {
	target, _, _ := strings.Cut(c.in.RequestURI, "?")
	path := strings.TrimPrefix(target, operatorPath)
	switch {
	case !isPlain(target):
		return errMalformed
	case c.public || !strings.HasPrefix(path, route.EnginePath):
		return errUnknownURL
	case cfg == nil:
		return errNotReady
	}
	key := cfg.OperatorKey(bearer(c.in))
	if key == nil {
		return errOperatorKey
	}
	c.operator, c.cfg, c.path, c.protocol = key, cfg, path, openAI
	switch {
	case c.in.ContentLength > c.maxBody:
		return errTooLarge
	case c.in.Header["Content-Encoding"] != nil:
		return errEncoded
	}
	return nil
}

// listsModels reports whether an operator asks what there is.
func (c *call) listsModels() bool {
	return c.in.Method == http.MethodGet && (c.path == modelsPath || strings.HasPrefix(c.path, modelsPath+"/"))
}

// readNamed takes the body of an operator's request in, finds the service that it names, and has a stream tell its usage.
func (c *call) readNamed(w http.ResponseWriter) (refused *refusal) {
	if c.listsModels() {
		return nil
	}
	if c.body, refused = c.take(w); refused != nil {
		return refused
	}
	if len(c.body) == 0 {
		return errUnnamedModel
	}
	name, err := c.model()
	if err != nil {
		return refuseModel(err)
	}
	if refused := c.chooseNamed(name); refused != nil {
		return refused
	}
	spliced := model.Splice{c.body}
	if c.request != nil {
		c.strips = c.request.Stream && c.tellsUsageWhenAsked() && !c.request.AsksUsage()
		spliced = c.request.Splice(nil, c.strips)
	}
	c.pieces, c.spliced = spliced, true
	return nil
}

// chooseNamed chooses the least busy of the services that the name means and that the caller's address may call.
func (c *call) chooseNamed(name string) *refusal {
	services := c.cfg.Opened(c.operator)[name]
	switch {
	case name == "":
		return errUnnamedModel
	case len(services) == 0:
		return errUnopenedModel
	}
	addr := clientAddr(c.in)
	allowed := slices.DeleteFunc(slices.Clone(services), func(s *config.Service) bool { return !s.Allows(addr) })
	if len(allowed) == 0 {
		return errAddress
	}
	c.service = leastBusy(allowed)
	c.traffic = c.service.Traffic
	if len(c.service.Replicas) == 0 {
		return errNoReplica
	}
	return nil
}

// leastBusy returns the service with the fewest requests under way, a random one of equals. One without engines, or that
// failed again and again, comes after all others, but for the one request that finds out how it is.
func leastBusy(services []*config.Service) (best *config.Service) {
	rand.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	late := func(s *config.Service) int64 {
		const behind = 1 << 32 // all requests that can be under way
		switch {
		case len(s.Replicas) == 0:
			return 2 * behind
		case s.Standing.Aside():
			return behind
		}
		return 0
	}
	for _, s := range services {
		if len(s.Replicas) > 0 && s.Standing.Probe() {
			return s
		}
	}
	return slices.MinFunc(services, func(a, b *config.Service) int {
		return cmp.Compare(late(a)+a.Traffic.InFlight(), late(b)+b.Traffic.InFlight())
	})
}

// answerOpened answers an operator that asks what there is: the names that a request from its address may name now.
func (c *call) answerOpened(w http.ResponseWriter) *refusal {
	addr := clientAddr(c.in)
	models := []listedModel{}
	opened := c.cfg.Opened(c.operator)
	for _, name := range slices.Sorted(maps.Keys(opened)) {
		if slices.ContainsFunc(opened[name], func(s *config.Service) bool { return len(s.Replicas) > 0 && s.Allows(addr) }) {
			models = append(models, listedModel{name, "model", 0, "engineshed"})
		}
	}
	var answer any = struct {
		Object string        `json:"object"`
		Data   []listedModel `json:"data"`
	}{"list", models}
	if name, one := strings.CutPrefix(c.in.URL.Path, operatorPath+modelsPath+"/"); one {
		at := slices.IndexFunc(models, func(m listedModel) bool { return m.ID == name })
		if at < 0 {
			return errUnopenedModel
		}
		answer = models[at]
	}
	body, _ := json.Marshal(answer) // strings never fail
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set(requestIDHeader, c.id)
	c.status = http.StatusOK
	_, _ = w.Write(body) // the client may be gone; nobody is left to tell
	return nil
}

// under is how much of the path is before what an engine is asked for, where no Model API is in between.
func (c *call) under() int {
	if c.operator != nil {
		return len(operatorPath)
	}
	return len(servicesPath) + len(c.service.ID)
}
