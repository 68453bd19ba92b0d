package modelapi

import (
	"fmt"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// How one of the replicas of a model service is chosen.
const (
	LeastInFlight = snapshot.LeastInFlight // the default
	PrefixAware   = snapshot.PrefixAware
)

// checkTraffic refuses limits that are none, and leaves out what is the default.
func (d *Definition) checkTraffic() error {
	t := &d.TrafficConfig
	for _, limit := range []struct {
		name       string
		value, max int
	}{
		{"firstByteTimeout", d.FirstByteTimeout, 3_600_000},
		{"trafficConfig.connectTimeout", t.ConnectTimeout, 60_000},
		{"trafficConfig.idleTimeout", t.IdleTimeout, 86_400_000},
		{"trafficConfig.maxConcurrency", t.MaxConcurrency, 1_000_000},
		{"trafficConfig.maxQueue", t.MaxQueue, 100_000},
	} {
		if limit.value < 0 || limit.value > limit.max {
			return fault.InvalidParameter(limit.name, fmt.Sprintf("it is 0 to %d.", limit.max))
		}
	}
	if t.MaxQueue > 0 && t.MaxConcurrency == 0 {
		return fault.InvalidParameter("trafficConfig.maxQueue", "without maxConcurrency no request ever waits. Send a maxConcurrency, too, or leave it out.")
	}
	switch t.ReplicaSelection {
	case LeastInFlight:
		t.ReplicaSelection = ""
	case "", PrefixAware:
	default:
		return fault.InvalidParameter("trafficConfig.replicaSelection", "it is LeastInFlight or PrefixAware.")
	}
	return nil
}

// limits are what gateways see of the timeouts and limits; nil when all are the gateway's own.
func (d *Definition) limits() *snapshot.Limits {
	t := d.TrafficConfig
	limits := snapshot.Limits{
		FirstContent: d.FirstByteTimeout, Connect: t.ConnectTimeout, Idle: t.IdleTimeout,
		Concurrent: t.MaxConcurrency, Queued: t.MaxQueue, ReplicaChoice: t.ReplicaSelection,
	}
	if limits == (snapshot.Limits{}) {
		return nil
	}
	return &limits
}
