package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the ones of vLLM's V1 engine that say something about a simulated one.
type metrics struct {
	registry                               *prometheus.Registry
	running, waiting                       prometheus.Gauge
	prompt, generated                      prometheus.Counter
	prefixQueries, prefixHits              prometheus.Counter
	success                                *prometheus.CounterVec
	queued, firstToken, interToken, whole  prometheus.Histogram
	promptPerRequest, generationPerRequest prometheus.Histogram
}

var (
	secondsBuckets = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	tokenBuckets   = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
)

func newMetrics(modelName string, cacheUsage func() float64) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	labels := prometheus.Labels{"model_name": modelName, "engine": "0"}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
		m.registry.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: labels, Buckets: buckets})
		m.registry.MustRegister(h)
		return h
	}
	m.running = gauge("vllm:num_requests_running", "Number of requests in model execution batches.")
	m.waiting = gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.")
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "vllm:kv_cache_usage_perc", Help: "KV-cache usage. 1 means 100 percent usage.", ConstLabels: labels,
	}, cacheUsage))
	m.prompt = counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.")
	m.generated = counter("vllm:generation_tokens_total", "Number of generation tokens processed.")
	m.prefixQueries = counter("vllm:prefix_cache_queries_total", "Prefix cache queries, in terms of number of queried tokens.")
	m.prefixHits = counter("vllm:prefix_cache_hits_total", "Prefix cache hits, in terms of number of cached tokens.")
	m.queued = histogram("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", secondsBuckets)
	m.firstToken = histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", secondsBuckets)
	m.interToken = histogram("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", secondsBuckets)
	m.whole = histogram("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", secondsBuckets)
	m.promptPerRequest = histogram("vllm:request_prompt_tokens", "Number of prefill tokens processed.", tokenBuckets)
	m.generationPerRequest = histogram("vllm:request_generation_tokens", "Number of generation tokens processed.", tokenBuckets)
	m.success = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vllm:request_success_total", Help: "Count of successfully processed requests.", ConstLabels: labels,
	}, []string{"finished_reason"})
	for _, reason := range []string{"stop", "length", "abort"} {
		m.success.WithLabelValues(reason)
	}
	m.registry.MustRegister(m.success)
	return m
}

// finished counts a request that ended; like vLLM it counts an aborted one too, under its own reason.
func (m *metrics) finished(g *generation, produced int, took time.Duration, err error) {
	reason := g.finish
	if err != nil {
		reason = "abort"
	}
	m.success.WithLabelValues(reason).Inc()
	m.whole.Observe(took.Seconds())
	m.promptPerRequest.Observe(float64(g.promptTokens))
	m.generationPerRequest.Observe(float64(produced))
}
