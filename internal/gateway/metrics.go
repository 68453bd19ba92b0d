package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/engineshed/engineshed/internal/gateway/config"
)

var (
	requestsDesc = prometheus.NewDesc("engineshed_gateway_requests_total",
		"Requests that ended, by model service (empty: none was entitled) and outcome: the class of the status, "+
			"cut (the engine broke off) or gone (the client left).", []string{"service", "outcome"}, nil)
	inFlightDesc = prometheus.NewDesc("engineshed_gateway_in_flight",
		"Requests being forwarded, by model service.", []string{"service"}, nil)
	apiRequestsDesc = prometheus.NewDesc("engineshed_gateway_api_requests_total",
		"Requests to Model APIs that ended, by API and outcome as above.", []string{"api", "outcome"}, nil)
	apiInFlightDesc = prometheus.NewDesc("engineshed_gateway_api_in_flight",
		"Requests to Model APIs being forwarded, by API.", []string{"api"}, nil)
	fallbacksDesc = prometheus.NewDesc("engineshed_gateway_fallbacks_total",
		"Times that a request turned to another service because one had failed, by API.", []string{"api"}, nil)
	ejectedDesc = prometheus.NewDesc("engineshed_gateway_ejected_targets",
		"Replicas of a model service or endpoints of a service that failed again and again and are left alone, once there were any.",
		[]string{"service"}, nil)
	ejectionsDesc = prometheus.NewDesc("engineshed_gateway_ejections_total",
		"Times that a replica or endpoint was ejected for its failures, by service.", []string{"service"}, nil)
	serviceEjectedDesc = prometheus.NewDesc("engineshed_gateway_service_ejected",
		"1 for a service that failed again and again as a whole: other services are asked first.", []string{"service"}, nil)
	keysDesc = prometheus.NewDesc("engineshed_gateway_keys_set_aside",
		"Keys of a service that it refuses, or that have reached a limit of it.", []string{"service"}, nil)
	revisionDesc = prometheus.NewDesc("engineshed_gateway_revision",
		"The published revision that is served.", nil, nil)
	ageDesc = prometheus.NewDesc("engineshed_gateway_config_age_seconds",
		"Time since the database last confirmed the configuration.", nil, nil)
	badDesc = prometheus.NewDesc("engineshed_gateway_bad_items",
		"Published items that could not be used; the form before them is served.", nil, nil)
)

// collector reads the counts where they are kept, so that a request pays for an atomic addition and nothing more.
type collector struct {
	store   *config.Store
	nobody  *config.Traffic
	started time.Time
}

func (collector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		requestsDesc, inFlightDesc, apiRequestsDesc, apiInFlightDesc, fallbacksDesc, ejectedDesc, ejectionsDesc, serviceEjectedDesc, keysDesc,
		revisionDesc, ageDesc, badDesc,
	} {
		descs <- desc
	}
}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	traffic := func(requests, inFlight *prometheus.Desc, id string, t *config.Traffic) {
		t.Each(func(o config.Outcome, count uint64) {
			metrics <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(count), id, o.String())
		})
		gauge(inFlight, float64(t.InFlight()), id)
	}
	traffic(requestsDesc, inFlightDesc, "", c.nobody)
	confirmed := c.store.Confirmed()
	if confirmed.IsZero() {
		confirmed = c.started
	}
	gauge(ageDesc, time.Since(confirmed).Seconds())
	cfg := c.store.Current()
	if cfg == nil {
		return
	}
	gauge(revisionDesc, float64(cfg.Revision))
	gauge(badDesc, float64(cfg.Bad()))
	health := func(id string, s *config.Standing, outliers []string) {
		gauge(serviceEjectedDesc, boolean(s.Ejected()), id)
		if n := s.Ejections.Load(); n > 0 {
			gauge(ejectedDesc, float64(len(outliers)), id)
			metrics <- prometheus.MustNewConstMetric(ejectionsDesc, prometheus.CounterValue, float64(n), id)
		}
	}
	for s := range cfg.Services {
		traffic(requestsDesc, inFlightDesc, s.ID, s.Traffic)
		health(s.ID, s.Standing, s.Outliers())
	}
	for u := range cfg.Upstreams {
		if u.ModelServiceID == "" {
			health(u.ID, u.Standing, u.Outliers())
		}
		if len(u.SealedKeys) > 0 {
			gauge(keysDesc, float64(u.KeysSetAside()), u.ID)
		}
	}
	for a := range cfg.APIs {
		if !a.Traffic.Any() {
			continue // of 100,000 Model APIs, most may have nothing to tell
		}
		traffic(apiRequestsDesc, apiInFlightDesc, a.ID, a.Traffic)
		metrics <- prometheus.MustNewConstMetric(fallbacksDesc, prometheus.CounterValue, float64(a.Traffic.Fallbacks()), a.ID)
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
