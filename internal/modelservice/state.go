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
	active   = "active"   // its engine has answered /health and a request
	silent   = "silent"   // its engine runs and has not answered for a while
	failed   = "failed"   // its engine ended; it is started again at restart_at
	draining = "draining" // it gets no request any more and finishes those under way
	removing = "removing"
	unknown  = "unknown"
)

// transitions are the replica states that may follow each other. Removing ends in no row at all.
var transitions = map[string][]string{
	pending:  {starting, active, failed, removing},
	starting: {starting, active, failed, removing},
	active:   {starting, active, silent, failed, draining},
	silent:   {starting, active, failed, draining},
	failed:   {starting, active, failed, removing},
	draining: {draining, removing},
	removing: {},
}

// serves reports whether gateways are told of a replica in this state.
func serves(status string) bool { return status == active || status == silent }

// action is the one thing a step does.
type action string

const (
	leave       action = "leave"        // row and world agree
	start       action = "start"        // start an engine
	markStart   action = "mark start"   // an engine runs that the row does not know of
	markActive  action = "mark active"  // the engine answers
	markSilent  action = "mark silent"  // the engine has not answered for a while
	markHung    action = "mark hung"    // the engine will not answer any more
	markFailed  action = "mark failed"  // the engine ended
	waitRestart action = "wait restart" // it may not start again yet
	drain       action = "drain"        // wait until the engine has nothing to do
	remove      action = "remove"       // end the engine, then remove the row
	replace     action = "replace"      // end an engine that a fenced-off step started, then start another
	fetch       action = "fetch"        // have the model's files fetched, and say how far they are
	markMissing action = "mark missing" // the model's files do not come
)

// decide compares a replica's row with what was observed. It is the whole of the rules; everything else carries it out.
func decide(r replicaState, seen node.Observation, p prognosis, now time.Time) action {
	ours := seen.Generation == r.EngineGeneration
	runs := seen.State == node.Healthy || seen.State == node.Starting
	switch {
	case r.Status == removing:
		return remove
	case r.Status == draining:
		return drain
	case runs && !ours:
		return replace
	case runs:
		return decideRunning(r, seen, p)
	case seen.State == node.Exited && ours && r.Status != failed:
		return markFailed
	case r.Status == failed && r.RestartAt.After(now):
		return waitRestart
	case p.files.missing:
		return decideFiles(r, p.files)
	}
	return start
}

// decideFiles decides about a replica whose model's files are not on the host yet. While they come it is starting.
func decideFiles(r replicaState, f supply) action {
	switch {
	case f.problem != "" && r.Status == starting:
		return markMissing
	case f.fetching && r.Status == starting && r.Reason == f.note:
		return leave
	}
	return fetch
}

// decideRunning decides about an engine that the row knows of.
func decideRunning(r replicaState, seen node.Observation, p prognosis) action {
	switch {
	case seen.State == node.Starting:
		if r.Status != starting {
			return markStart
		}
	case !serves(r.Status):
		if p.answered {
			return markActive
		}
		if r.Status != starting {
			return markStart
		}
	case p.health == hung:
		return markHung
	case p.health == mute && r.Status == active:
		return markSilent
	case p.health == well && (r.Status == silent || r.Reason != p.reason):
		return markActive
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
	was                             Status // the state that was written last
	total, active, failed, restarts int    // total is how many there should be
	changing                        bool   // some are to be replaced, or are being taken away
	reason                          string // of the first replica that does not answer
	note                            string // what else there is to say: who drains, who is busy
}

// settle derives the service's state from its replicas.
func settle(current Status, t tally) (Status, string) {
	switch {
	case current == Deleting:
		return Deleting, t.note
	case t.active >= t.total:
		return Active, t.note
	case t.active > 0 && (current == Deploying || t.changing) && t.failed == 0:
		return Deploying, fmt.Sprintf("%d of %d replicas answer%s", t.active, t.total, because(t.reason))
	case t.active > 0:
		return Degraded, fmt.Sprintf("%d of %d replicas answer: %s.", t.active, t.total, t.reason)
	case t.restarts >= failedAtOnce || current == Failed:
		return Failed, fmt.Sprintf("No replica answers: %s.", t.reason)
	case current == Deploying:
		return Deploying, "No replica answers yet" + because(t.reason)
	}
	return Degraded, fmt.Sprintf("No replica answers: %s.", t.reason)
}

// because ends a sentence with its reason, if there is one. The reason has no full stop.
func because(reason string) string {
	if reason == "" {
		return "."
	}
	return ": " + reason + "."
}
