package modelservice

import (
	"fmt"
	"time"

	"github.com/engineshed/engineshed/internal/node"
)

// The states of a replica. unknown is never stored: it is what a read shows of a host that is silent.
const (
	pending  = "pending"  // no engine was started yet
	starting = "starting" // its engine runs or is about to, and has not answered
	active   = "active"   // its engine answered /health
	failed   = "failed"   // its engine ended; it is started again at restart_at
	removing = "removing"
	unknown  = "unknown"
)

// transitions are the replica states that may follow each other. Removing ends in no row at all.
var transitions = map[string][]string{
	pending:  {starting, active, failed, removing},
	starting: {starting, active, failed, removing},
	active:   {starting, failed, removing},
	failed:   {starting, active, failed, removing},
	removing: {},
}

// action is the one thing a step does.
type action string

const (
	leave       action = "leave"        // row and world agree
	start       action = "start"        // start an engine
	markStart   action = "mark start"   // an engine runs that the row does not know of
	markActive  action = "mark active"  // the engine answers
	markFailed  action = "mark failed"  // the engine ended
	waitRestart action = "wait restart" // it may not start again yet
	remove      action = "remove"       // end the engine, then remove the row
	replace     action = "replace"      // end an engine that a fenced-off step started, then start another
)

// decide compares a replica's row with what was observed. It is the whole of the rules; everything else carries it out.
func decide(r replicaState, seen node.Observation, now time.Time) action {
	if r.Status == removing {
		return remove
	}
	ours := seen.Generation == r.EngineGeneration
	switch seen.State {
	case node.Healthy, node.Starting:
		return decideRunning(r, seen, ours)
	case node.Exited:
		if ours && r.Status != failed {
			return markFailed
		}
	}
	if r.Status == failed && r.RestartAt.After(now) {
		return waitRestart
	}
	return start
}

func decideRunning(r replicaState, seen node.Observation, ours bool) action {
	switch {
	case !ours:
		return replace
	case seen.State == node.Healthy && r.Status != active:
		return markActive
	case seen.State == node.Starting && r.Status != starting:
		return markStart
	}
	return leave
}

const (
	firstRestart  = time.Second
	slowestStart  = time.Minute
	quietPeriod   = time.Minute // an engine that was active this long starts its count of restarts anew
	failedAtOnce  = 3           // restarts without an answer after which the service is failed
	restartCutoff = 16          // 2^16 s is beyond slowestStart: keeps the shift small
)

// backoff is how long the n-th restart waits, n from 1.
func backoff(n int) time.Duration {
	return min(firstRestart<<min(n-1, restartCutoff), slowestStart)
}

// tally is what a service's replicas say together.
type tally struct {
	total, active, failed, restarts int
	reason                          string // of the first replica that does not answer
}

// settle derives the service's state from its replicas.
func settle(current Status, t tally) (Status, string) {
	switch {
	case current == Deleting:
		return Deleting, ""
	case t.active == t.total:
		return Active, ""
	case t.active > 0 && current == Deploying && t.failed == 0:
		return Deploying, fmt.Sprintf("%d of %d replicas answer.", t.active, t.total)
	case t.active > 0:
		return Degraded, fmt.Sprintf("%d of %d replicas answer: %s.", t.active, t.total, t.reason)
	case t.restarts >= failedAtOnce || current == Failed:
		return Failed, fmt.Sprintf("No replica answers: %s.", t.reason)
	case current == Deploying && t.failed == 0:
		return Deploying, ""
	case current == Deploying:
		return Deploying, fmt.Sprintf("No replica answers yet: %s.", t.reason)
	}
	return Degraded, fmt.Sprintf("No replica answers: %s.", t.reason)
}
