package record

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxSeries is how many combinations of labels are told apart; all further ones are counted as other.
	maxSeries = 2000
	// maxModels is how many names of models are told apart that no configuration names.
	maxModels = 200
	other     = "other"
)

// labels tell counters apart, under the names that dashboards know.
type labels struct{ route, cluster, model, consumer string }

// counters of one combination of labels.
type counters struct {
	values [len(counterNames)]atomic.Uint64
}

// counterNames follow the prefix.
var counterNames = [...]struct{ name, help string }{
	{"input_token", "Tokens that were read."},
	{"output_token", "Tokens that were written."},
	{"total_token", "Tokens in all."},
	{"llm_service_duration", "Milliseconds that requests took."},
	{"llm_duration_count", "Requests that tell their usage."},
	{"llm_first_token_duration", "Milliseconds until the first content of streams."},
	{"llm_stream_duration_count", "Streams that tell their usage."},
}

var counterDescs = func() (descs [len(counterNames)]*prometheus.Desc) {
	for i, c := range counterNames {
		descs[i] = prometheus.NewDesc("route_upstream_model_consumer_metric_"+c.name,
			c.help+" Requests to Model APIs with AI statistics, by API, service, model and consumer.",
			[]string{"ai_route", "ai_cluster", "ai_model", "ai_consumer"}, nil)
	}
	return descs
}()

// series are the counters by labels. Counting takes no lock once a combination is known.
type series struct {
	known  atomic.Pointer[map[labels]*counters]
	mu     sync.Mutex      // of those who add a combination
	models map[string]bool // that were let in though no configuration names them
}

// Count counts a request of an API that has statistics, for the model that is configured, or else for the one that
// served it. Requests whose usage is not known are not counted, so that averages are right.
func (r *Recorder) Count(rec *Record, configured string) {
	if !rec.Usage.Known {
		return
	}
	l := labels{rec.APIName, rec.ServiceName, configured, rec.consumerLabel()}
	if configured == "" {
		l.model = clean(rec.loggedModel())
	}
	c := r.series.of(l, configured != "")
	c.add(uint64(rec.Usage.Input), uint64(rec.Usage.Output), uint64(rec.Usage.Total), //nolint:gosec // never negative
		uint64(rec.Total.Milliseconds()), 1) //nolint:gosec // never negative
	if rec.Streamed && rec.FirstContent > 0 {
		c.values[5].Add(uint64(rec.FirstContent.Milliseconds())) //nolint:gosec // never negative
		c.values[6].Add(1)
	}
}

func (c *counters) add(values ...uint64) {
	for i, v := range values {
		c.values[i].Add(v)
	}
}

func (s *series) of(l labels, configured bool) *counters {
	if known := s.known.Load(); known != nil {
		if c := (*known)[l]; c != nil {
			return c
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !configured {
		l.model = s.bounded(l.model)
	}
	next := map[labels]*counters{}
	if known := s.known.Load(); known != nil {
		if len(*known) >= maxSeries && (*known)[l] == nil {
			l = labels{other, other, other, other}
		}
		if c := (*known)[l]; c != nil {
			return c
		}
		next = maps.Clone(*known)
	}
	c := new(counters)
	next[l] = c
	s.known.Store(&next)
	return c
}

// bounded lets the first names in: a service that repeats whatever it is asked for must not make endless series.
func (s *series) bounded(model string) string {
	if s.models == nil {
		s.models = map[string]bool{}
	}
	if !s.models[model] && len(s.models) >= maxModels {
		return other
	}
	s.models[model] = true
	return model
}

func (s *series) describe(descs chan<- *prometheus.Desc) {
	for _, d := range counterDescs {
		descs <- d
	}
}

func (s *series) collect(metrics chan<- prometheus.Metric) {
	known := s.known.Load()
	if known == nil {
		return
	}
	for l, c := range *known {
		for i, d := range counterDescs {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(c.values[i].Load()),
				l.route, l.cluster, l.model, l.consumer)
		}
	}
}
