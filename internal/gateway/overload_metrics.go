package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/engineshed/engineshed/internal/gateway/config"
)

var (
	runningDesc = prometheus.NewDesc("engineshed_gateway_running",
		"Requests that count against the limit of the gateway.", nil, nil)
	queuedDesc = prometheus.NewDesc("engineshed_gateway_queued",
		"Requests that wait for the limit of the gateway.", nil, nil)
	apiRunningDesc = prometheus.NewDesc("engineshed_gateway_api_running",
		"Requests that count against the limit of a Model API, of those with one.", []string{"api"}, nil)
	apiQueuedDesc = prometheus.NewDesc("engineshed_gateway_api_queued",
		"Requests that wait for the limit of a Model API, of those with one.", []string{"api"}, nil)
	apiRefusedDesc = prometheus.NewDesc("engineshed_gateway_api_refused_total",
		"Requests refused by the limit of a Model API, of those with one.", []string{"api"}, nil)
	refusedDesc = prometheus.NewDesc("engineshed_gateway_refused_total",
		"Requests refused because too much was under way: by the limit of the gateway, of an API, or of the memory for bodies.",
		[]string{"limit"}, nil)
	bodyBytesDesc = prometheus.NewDesc("engineshed_gateway_body_bytes",
		"Memory of the bodies of requests that are held.", nil, nil)
	stalledDesc = prometheus.NewDesc("engineshed_gateway_stalled_total",
		"Clients given up because a body stopped coming, or because they stopped reading an answer.", []string{"what"}, nil)
)

// loadCollector shows what the gateway carries.
type loadCollector struct {
	load    *load
	current func() *config.Config
}

func (loadCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		runningDesc, queuedDesc, apiRunningDesc, apiQueuedDesc, apiRefusedDesc, refusedDesc, bodyBytesDesc, stalledDesc,
	} {
		descs <- desc
	}
}

func (c loadCollector) Collect(metrics chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	count := func(desc *prometheus.Desc, value uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(runningDesc, c.load.gate.Running())
	gauge(queuedDesc, c.load.gate.Waiting())
	gauge(bodyBytesDesc, int(c.load.memory.Held()))
	count(refusedDesc, c.load.gate.Refused(), "gateway")
	count(refusedDesc, c.load.apiRefused.Load(), "api")
	count(refusedDesc, c.load.memory.Refused(), "body_memory")
	count(stalledDesc, c.load.clients.Bodies(), "body")
	count(stalledDesc, c.load.clients.Answers(), "answer")
	cfg := c.current()
	if cfg == nil {
		return
	}
	for a := range cfg.APIs {
		if gate := a.Traffic.Gate(); gate != nil {
			gauge(apiRunningDesc, gate.Running(), a.ID)
			gauge(apiQueuedDesc, gate.Waiting(), a.ID)
			count(apiRefusedDesc, gate.Refused(), a.ID)
		}
	}
}
