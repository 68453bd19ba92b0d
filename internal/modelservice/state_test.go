package modelservice

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node"
)

func TestDecideComparesTheRowWithTheWorld(t *testing.T) {
	now := time.Now()
	row := func(status string) replicaState {
		return replicaState{Status: status, EngineGeneration: 3, RestartAt: now.Add(-time.Second)}
	}
	later := row(failed)
	later.RestartAt = now.Add(time.Second)
	for name, c := range map[string]struct {
		row  replicaState
		seen node.Observation
		want action
	}{
		"a new replica starts":                     {row(pending), node.Observation{State: node.Absent}, start},
		"an engine that vanished starts again":     {row(active), node.Observation{State: node.Absent}, start},
		"a worker killed before exec starts again": {row(starting), node.Observation{State: node.Absent}, start},
		"a loading engine is left alone":           {row(starting), node.Observation{State: node.Starting, Generation: 3}, leave},
		"an answering engine becomes active":       {row(starting), node.Observation{State: node.Healthy, Generation: 3}, markActive},
		"an active one that answers is left alone": {row(active), node.Observation{State: node.Healthy, Generation: 3}, leave},
		"an adopted engine that loads is starting": {row(failed), node.Observation{State: node.Starting, Generation: 3}, markStart},
		"an engine of a late step is replaced":     {row(starting), node.Observation{State: node.Healthy, Generation: 2}, replace},
		"an ended engine is a failure":             {row(active), node.Observation{State: node.Exited, Generation: 3}, markFailed},
		"an engine that ended earlier is not":      {row(starting), node.Observation{State: node.Exited, Generation: 2}, start},
		"a failure waits for its time":             {later, node.Observation{State: node.Exited, Generation: 3}, waitRestart},
		"a failure starts again at its time":       {row(failed), node.Observation{State: node.Exited, Generation: 3}, start},
		"a removed one goes, whatever runs":        {row(removing), node.Observation{State: node.Healthy, Generation: 3}, remove},
		"a removed one goes without an engine too": {row(removing), node.Observation{State: node.Absent}, remove},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, decide(c.row, c.seen, now))
		})
	}
}

func TestEveryDecisionFromEveryStateIsAnAllowedTransition(t *testing.T) {
	target := map[action]string{start: starting, markStart: starting, markActive: active, markFailed: failed}
	now := time.Now()
	for from := range transitions {
		for _, seen := range []node.State{node.Absent, node.Starting, node.Healthy, node.Exited} {
			for _, generation := range []int64{2, 3} {
				r := replicaState{Status: from, EngineGeneration: 3, RestartAt: now}
				next := decide(r, node.Observation{State: seen, Generation: generation}, now)
				if to, writes := target[next]; writes {
					require.Contains(t, transitions[from], to, "%s sees %s and does %s", from, seen, next)
				}
			}
		}
	}
}

func TestAServiceIsWhatItsReplicasAre(t *testing.T) {
	for name, c := range map[string]struct {
		current Status
		tally   tally
		want    Status
		reason  string
	}{
		"all answer":                   {Deploying, tally{total: 2, active: 2}, Active, ""},
		"still deploying":              {Deploying, tally{total: 2}, Deploying, ""},
		"the first of two answers":     {Deploying, tally{total: 2, active: 1}, Deploying, "1 of 2 replicas answer."},
		"one of two ended":             {Active, tally{total: 2, active: 1, failed: 1, restarts: 1, reason: "replica 1 on ai-x is failed: exited 1"}, Degraded, "1 of 2 replicas answer: replica 1 on ai-x is failed: exited 1."},
		"the only one ended":           {Active, tally{total: 1, failed: 1, restarts: 1, reason: "r"}, Degraded, "No replica answers: r."},
		"the first start failed once":  {Deploying, tally{total: 1, failed: 1, restarts: 1, reason: "r"}, Deploying, "No replica answers yet: r."},
		"it keeps ending":              {Deploying, tally{total: 1, failed: 1, restarts: 3, reason: "r"}, Failed, "No replica answers: r."},
		"a failed one is trying again": {Failed, tally{total: 1, reason: "r"}, Failed, "No replica answers: r."},
		"a failed one recovered":       {Failed, tally{total: 1, active: 1}, Active, ""},
		"deleting stays deleting":      {Deleting, tally{total: 1, active: 1}, Deleting, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, reason := settle(c.current, c.tally)
			require.Equal(t, c.want, status)
			require.Equal(t, c.reason, reason)
		})
	}
}

func TestBackoffGrowsToItsCap(t *testing.T) {
	require.Equal(t, time.Second, backoff(1))
	require.Equal(t, 4*time.Second, backoff(3))
	require.Equal(t, time.Minute, backoff(7))
	require.Equal(t, time.Minute, backoff(1_000_000))
}
