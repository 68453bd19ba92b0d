package controlplane

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/engineshed/engineshed/internal/audit"
)

var signInFailures = prometheus.NewDesc("engineshed_sign_in_failures_total",
	"Requests that nobody could be proven to have sent, by the code they were refused with.", []string{"code"}, nil)

// signInMetrics shows counts of failed sign-ins. There are as many codes as there are refusals, whoever calls.
type signInMetrics struct{ signIns *audit.SignIns }

// Describe says what there is.
func (signInMetrics) Describe(descs chan<- *prometheus.Desc) { descs <- signInFailures }

// Collect says how much of it.
func (m signInMetrics) Collect(metrics chan<- prometheus.Metric) {
	for code, n := range m.signIns.Totals() {
		metrics <- prometheus.MustNewConstMetric(signInFailures, prometheus.CounterValue, float64(n), code)
	}
}
