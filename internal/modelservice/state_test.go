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
	healthy := node.Observation{State: node.Healthy, Generation: 3}
	said, half := row(active), row(starting)
	said.Reason, half.Reason = "busy", "half"
	absent := node.Observation{State: node.Absent}
	for name, c := range map[string]struct {
		row  replicaState
		seen node.Observation
		says prognosis
		want action
	}{
		"a new replica starts":                     {row(pending), node.Observation{State: node.Absent}, prognosis{}, start},
		"an engine that vanished starts again":     {row(active), node.Observation{State: node.Absent}, prognosis{}, start},
		"a worker killed before exec starts again": {row(starting), node.Observation{State: node.Absent}, prognosis{}, start},
		"a loading engine is left alone":           {row(starting), node.Observation{State: node.Starting, Generation: 3}, prognosis{}, leave},
		"an answering engine becomes active":       {row(starting), healthy, prognosis{answered: true}, markActive},
		"one that answers only /health does not":   {row(starting), healthy, prognosis{}, leave},
		"an adopted one that answers is active":    {row(failed), healthy, prognosis{answered: true}, markActive},
		"an adopted one is tried first":            {row(failed), healthy, prognosis{}, markStart},
		"a busy one is active":                     {row(active), healthy, prognosis{answered: true, health: well, reason: "busy"}, markActive},
		"a busy one is told of once":               {said, healthy, prognosis{answered: true, health: well, reason: "busy"}, leave},
		"one that is busy no more":                 {said, healthy, prognosis{answered: true, health: well}, markActive},
		"one that nobody has asked is left alone":  {said, healthy, prognosis{}, leave},
		"one that does not answer is silent":       {row(active), healthy, prognosis{answered: true, health: mute}, markSilent},
		"a silent one stays so":                    {row(silent), healthy, prognosis{answered: true, health: mute}, leave},
		"a silent one that answers is active":      {row(silent), healthy, prognosis{answered: true, health: well}, markActive},
		"one that hangs is ended":                  {row(silent), healthy, prognosis{answered: true, health: hung}, markHung},
		"one that goes drains, whatever it does":   {row(draining), healthy, prognosis{answered: true, health: hung}, drain},
		"an active one that answers is left alone": {row(active), node.Observation{State: node.Healthy, Generation: 3}, prognosis{}, leave},
		"an adopted engine that loads is starting": {row(failed), node.Observation{State: node.Starting, Generation: 3}, prognosis{}, markStart},
		"an engine of a late step is replaced":     {row(starting), node.Observation{State: node.Healthy, Generation: 2}, prognosis{}, replace},
		"an ended engine is a failure":             {row(active), node.Observation{State: node.Exited, Generation: 3}, prognosis{}, markFailed},
		"an engine that ended earlier is not":      {row(starting), node.Observation{State: node.Exited, Generation: 2}, prognosis{}, start},
		"a failure waits for its time":             {later, node.Observation{State: node.Exited, Generation: 3}, prognosis{}, waitRestart},
		"a failure starts again at its time":       {row(failed), node.Observation{State: node.Exited, Generation: 3}, prognosis{}, start},
		"files that are missing are fetched":       {row(pending), absent, prognosis{files: supply{missing: true}}, fetch},
		"files on their way are told of":           {row(starting), absent, prognosis{files: supply{missing: true, fetching: true, note: "half"}}, fetch},
		"files on their way are told of once":      {half, absent, prognosis{files: supply{missing: true, fetching: true, note: "half"}}, leave},
		"files that do not come are a failure":     {row(starting), absent, prognosis{files: supply{missing: true, problem: "gone"}}, markMissing},
		"files that did not come are tried again":  {row(failed), absent, prognosis{files: supply{missing: true, problem: "gone"}}, fetch},
		"files that did not come, a moment ago":    {later, absent, prognosis{files: supply{missing: true, problem: "gone"}}, waitRestart},
		"an engine that runs needs no files":       {row(starting), healthy, prognosis{answered: true, files: supply{missing: true}}, markActive},
		"a removed one needs no files":             {row(removing), absent, prognosis{files: supply{missing: true}}, remove},
		"a removed one goes, whatever runs":        {row(removing), node.Observation{State: node.Healthy, Generation: 3}, prognosis{}, remove},
		"a removed one goes without an engine too": {row(removing), node.Observation{State: node.Absent}, prognosis{}, remove},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, decide(c.row, c.seen, c.says, now))
		})
	}
}

func TestEveryDecisionFromEveryStateIsAnAllowedTransition(t *testing.T) {
	target := map[action]string{
		start: starting, markStart: starting, markActive: active, markSilent: silent, markHung: failed, markFailed: failed, drain: removing,
		fetch: starting, markMissing: failed,
	}
	var prognoses []prognosis
	for _, answered := range []bool{false, true} {
		for _, h := range []health{"", well, mute, hung} {
			for _, files := range []supply{{}, {missing: true}, {missing: true, fetching: true, note: "n"}, {missing: true, problem: "p"}} {
				prognoses = append(prognoses, prognosis{answered: answered, health: h, reason: "r", files: files})
			}
		}
	}
	now := time.Now()
	for from := range transitions {
		for _, seen := range []node.State{node.Absent, node.Starting, node.Healthy, node.Exited} {
			for _, generation := range []int64{2, 3} {
				for _, p := range prognoses {
					r := replicaState{Status: from, EngineGeneration: 3, RestartAt: now}
					next := decide(r, node.Observation{State: seen, Generation: generation}, p, now)
					if to, writes := target[next]; writes {
						require.Contains(t, transitions[from], to, "%s sees %s and does %s", from, seen, next)
					}
				}
			}
		}
	}
}

func TestAReplicaThatGoesDrainsIfGatewaysKnowIt(t *testing.T) {
	for from := range transitions {
		to := leaving(from)
		if from != to {
			require.Contains(t, transitions[from], to)
		}
		require.Equal(t, serves(from) || from == draining, to == draining, from)
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
		"still deploying":              {Deploying, tally{total: 2, reason: "replica 0 on ai-x is starting"}, Deploying, "No replica answers yet: replica 0 on ai-x is starting."},
		"the first of two answers":     {Deploying, tally{total: 2, active: 1}, Deploying, "1 of 2 replicas answer."},
		"one of two ended":             {Active, tally{total: 2, active: 1, failed: 1, restarts: 1, reason: "replica 1 on ai-x is failed: exited 1"}, Degraded, "1 of 2 replicas answer: replica 1 on ai-x is failed: exited 1."},
		"the only one ended":           {Active, tally{total: 1, failed: 1, restarts: 1, reason: "r"}, Degraded, "No replica answers: r."},
		"the first start failed once":  {Deploying, tally{total: 1, failed: 1, restarts: 1, reason: "r"}, Deploying, "No replica answers yet: r."},
		"it keeps ending":              {Deploying, tally{total: 1, failed: 1, restarts: 3, reason: "r"}, Failed, "No replica answers: r."},
		"a failed one is trying again": {Failed, tally{total: 1, reason: "r"}, Failed, "No replica answers: r."},
		"a failed one recovered":       {Failed, tally{total: 1, active: 1}, Active, ""},
		"deleting stays deleting":      {Deleting, tally{total: 1, active: 1}, Deleting, ""},
		"deleting tells of draining":   {Deleting, tally{total: 1, note: "Replica 0 drains."}, Deleting, "Replica 0 drains."},
		"all answer and one is busy":   {Active, tally{total: 2, active: 2, note: "Replica 1 is busy."}, Active, "Replica 1 is busy."},
		"one too many while changing":  {Active, tally{total: 2, active: 3, changing: true, note: "n"}, Active, "n"},
		"one is out while changing":    {Active, tally{total: 2, active: 1, changing: true, reason: "r"}, Deploying, "1 of 2 replicas answer: r."},
		"one is out and another fails": {Active, tally{total: 3, active: 1, failed: 1, changing: true, reason: "r"}, Degraded, "1 of 3 replicas answer: r."},
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

// leaving is the state by which a replica goes: what gateways are told of drains first.
func leaving(status string) string {
	if serves(status) || status == draining {
		return draining
	}
	return removing
}
