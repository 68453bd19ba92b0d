package modelservice

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/vllm"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/snapshot"
)

const (
	askDraining = time.Second // how long a draining engine may take to say what it has
	// A request may be on its way from a gateway to an engine that is idle; this is longer than any way.
	staysIdle = 500 * time.Millisecond
)

// drainage is what a step sees of a replica that drains.
type drainage struct {
	runs       bool // its engine does
	behind     int  // gateways that may still send it requests; negative: they have not been told yet
	load       vllm.Load
	err        error         // why load is not known
	drains     time.Duration // how long it has drained
	limit      time.Duration
	idleBefore bool
	idleFor    time.Duration
}

// held says for a person why the engine may not be ended yet, or that it may. idle reports whether it has nothing to do.
func (d drainage) held() (reason string, held, idle bool) {
	switch {
	case !d.runs:
		return "", false, false
	case d.drains >= d.limit:
		return "", false, false
	case d.behind < 0:
		return "the gateways have not been told yet", true, false
	case d.behind > 0:
		return fmt.Sprintf("%s may still send it requests", plural(d.behind, "gateway")), true, false
	case d.err != nil:
		return "its engine does not say what it has under way", true, false
	case d.load.UnderWay() > 0:
		return fmt.Sprintf("%s under way", plural(d.load.UnderWay(), "request")), true, false
	case d.idleBefore && d.idleFor >= staysIdle:
		return "", false, true
	}
	return "no request under way", true, true
}

// drain takes one step of a replica that goes: as soon as nothing holds its engine, it is removed.
func (s *Stepper) drain(ctx context.Context, r replicaState, seen node.Observation) error {
	d := drainage{
		runs:   (seen.State == node.Healthy || seen.State == node.Starting) && seen.Generation == r.EngineGeneration,
		drains: r.drainingFor, limit: s.DrainLimit, idleBefore: r.idle, idleFor: r.idleFor,
	}
	var err error
	if d.behind, err = publish.Behind(ctx, s.Services.db, snapshot.KindModelService, r.ServiceID, r.drainVersion); err != nil {
		return err
	}
	if d.runs && d.behind == 0 {
		askCtx, cancel := context.WithTimeout(ctx, askDraining)
		defer cancel()
		d.load, d.err = s.Engines.Load(askCtx, r.EngineAddr)
	}
	reason, held, idle := d.held()
	if !held {
		if d.drains >= d.limit && d.load.UnderWay() > 0 {
			s.Log.WarnContext(ctx, "engine is ended with requests under way", slog.String("replica", r.ID), slog.Int("requests", d.load.UnderWay()))
		}
		return s.write(ctx, r, change{status: removing})
	}
	if reason == r.Reason && idle == r.idle {
		return nil
	}
	return s.write(ctx, r, change{status: draining, reason: reason, idle: idle})
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
