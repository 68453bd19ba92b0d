package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/modelfile"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/modelservice"
	"github.com/engineshed/engineshed/internal/node/probe"
	"github.com/engineshed/engineshed/internal/node/process"
)

const (
	heartbeatInterval = 2 * time.Second
	reconcileInterval = 5 * time.Second
	sweepInterval     = 5 * time.Second
	versionInterval   = 10 * time.Minute // the catalogue may change, and so may the engine
)

// worker is this host's hand: its heartbeat, its watcher and its jobs.
type worker struct {
	*program
	host    instance.Host
	driver  *process.Driver
	watcher *modelservice.Watcher
	client  *jobs.Client
	files   *modelfile.Store // nil: engines fetch their models themselves
	beatAt  time.Time        // when the host last said that it is alive
}

func (p *program) newWorker(ctx context.Context) (*worker, error) {
	devices, err := accelerators(ctx)
	if err != nil {
		return nil, err
	}
	machine, err := machineID(p.cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	w := &worker{program: p, host: instance.Host{
		Name: p.cfg.Host, Machine: machine, EngineAddr: p.cfg.EngineAddr, Accelerators: devices, StartedAt: time.Now(),
	}}
	if w.driver, err = p.newDriver(ctx); err != nil {
		return nil, err
	}
	if w.files, err = p.openModels(); err != nil {
		return nil, err
	}
	host := modelservice.Host{
		Services: p.services, Driver: w.driver, Engines: probe.New(), Name: p.cfg.Host, Machine: machine, Files: w.files,
		FreeAddr:   func() (string, error) { return process.FreeAddr(p.cfg.EngineAddr) },
		DrainLimit: p.cfg.DrainLimit, HungAfter: p.cfg.HungAfter, Log: p.log,
	}
	w.watcher = modelservice.NewWatcher(host)
	workers := river.NewWorkers()
	p.publisher.AddWorker(workers)
	modelservice.AddWorkers(workers, p.services, modelservice.NewStepper(host, w.watcher))
	if w.client, err = jobs.NewWorker(p.db, workers, p.log, p.cfg.Host); err != nil {
		return nil, err
	}
	// The host is known before the first call can ask for room on it.
	return w, w.introduce(ctx)
}

// introduce says for the first time that the host is alive.
func (w *worker) introduce(ctx context.Context) error {
	if err := w.beat(ctx); err != nil {
		return fmt.Errorf("--host %s: %w", w.cfg.Host, err)
	}
	return nil
}

// seed makes the account's first DB instance and gateway when asked.
func (w *worker) seed(ctx context.Context, account string) error {
	if !w.cfg.Seed {
		return nil
	}
	if err := w.instances.Seed(ctx, account, w.host, simulatedNodes); err != nil {
		return fmt.Errorf("make the first DB instance: %w", err)
	}
	if err := w.ingress.Seed(ctx, account); err != nil {
		return fmt.Errorf("make the first gateway: %w", err)
	}
	return nil
}

func (p *program) newDriver(ctx context.Context) (*process.Driver, error) {
	command, err := engineCommand(p.cfg.VLLMCommand)
	if err != nil {
		return nil, err
	}
	var installation string
	if err := p.db.QueryRow(ctx, `SELECT id FROM installation`).Scan(&installation); err != nil {
		return nil, fmt.Errorf("read the installation's id: %w", err)
	}
	return process.New(process.Config{
		Command: command, Dir: filepath.Join(p.cfg.DataDir, "replicas"), Models: filepath.Join(p.cfg.DataDir, "models"),
		Installation: installation,
		User:         p.cfg.EngineUser, Grace: p.cfg.StopGrace, Logger: p.log,
	})
}

// openModels opens the directory of the models' files, where the worker keeps them.
func (p *program) openModels() (*modelfile.Store, error) {
	if p.cfg.Models == "" {
		return nil, nil
	}
	dir, err := filepath.Abs(p.cfg.Models)
	if err != nil {
		return nil, fmt.Errorf("--models: %w", err)
	}
	reached, err := hub.Load(p.cfg.ModelSources, os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("--model-sources: %w", err)
	}
	hubs, err := hub.New(reached)
	if err != nil {
		return nil, fmt.Errorf("--model-sources: %w", err)
	}
	if err := process.CheckDir(dir, p.cfg.EngineUser); err != nil {
		return nil, fmt.Errorf("--models: engines could not read %s: %w", dir, err)
	}
	files, err := modelfile.Open(modelfile.Config{Dir: dir, Hubs: hubs, Log: p.log})
	if err != nil {
		return nil, fmt.Errorf("--models: %w", err)
	}
	return files, nil
}

// engineCommand is VLLM_COMMAND split into words, or vllm where it is on the PATH.
func engineCommand(command string) ([]string, error) {
	if command != "" {
		words, err := process.SplitCommand(command)
		if err != nil {
			return nil, fmt.Errorf("VLLM_COMMAND: %w", err)
		}
		return words, nil
	}
	if _, err := exec.LookPath("vllm"); err != nil {
		return nil, errors.New("there is no engine: install vLLM so that vllm is on the PATH, or set VLLM_COMMAND")
	}
	return []string{"vllm"}, nil
}

// run works until ctx ends, then lets the jobs under way end.
func (w *worker) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.heartbeat(ctx) })
	group.Go(func() error { return w.every(ctx, reconcileInterval, "reconcile", w.reconcile) })
	group.Go(func() error { return w.every(ctx, sweepInterval, "sweep", w.sweep) })
	group.Go(func() error { return w.every(ctx, versionInterval, "engine version", w.learnVersion) })
	group.Go(func() error { return w.watcher.Run(ctx) })
	group.Go(func() error { return w.watcher.CopyLogs(ctx) })
	group.Go(func() error { return w.work(ctx) })
	err := group.Wait()
	if w.files != nil {
		w.files.Close()
	}
	if leaveErr := w.leave(context.WithoutCancel(ctx)); leaveErr != nil {
		w.log.WarnContext(ctx, "host cannot be left", slog.Any("error", leaveErr))
	}
	if w.cfg.StopEnginesOnExit || errors.Is(err, instance.ErrHostTaken) { // the other machine runs the host's replicas
		return errors.Join(err, w.stopEngines(context.WithoutCancel(ctx)))
	}
	return err
}

// reconcile puts right what differs, anywhere, if it is this host's turn.
func (w *worker) reconcile(ctx context.Context) error {
	mine, err := w.instances.Turn(ctx, w.host.Name, reconcileInterval)
	if err != nil || !mine {
		return err
	}
	return errors.Join(w.services.Reconcile(ctx), w.publisher.Reconcile(ctx))
}

func (w *worker) sweep(ctx context.Context) error {
	_, err := w.watcher.Sweep(ctx)
	return err
}

// learnVersion writes down which version of the engine the host has, where a model asks for one: it takes a while to find out.
func (w *worker) learnVersion(ctx context.Context) error {
	if !w.catalog.AsksForVersion() {
		return nil
	}
	version, err := w.driver.Version(ctx)
	if err != nil {
		return err
	}
	return w.instances.SetEngineVersion(ctx, w.host.Name, version)
}

// leave lets another machine take this one's place at once.
func (w *worker) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.StopGrace)
	defer cancel()
	return w.instances.Leave(ctx, w.host)
}

// heartbeat says again and again that the host is alive. It ends when another machine speaks for the host.
func (w *worker) heartbeat(ctx context.Context) error {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		err := w.beat(ctx)
		switch {
		case errors.Is(err, instance.ErrHostTaken):
			return err
		case err != nil && ctx.Err() == nil:
			w.log.WarnContext(ctx, "host cannot say that it is alive", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// beat says that the host is alive. One that was silent for so long that its replicas may have been given up ends what
// nobody knows any more before it says so: until then nothing new is placed on it.
func (w *worker) beat(ctx context.Context) error {
	silent := time.Since(w.beatAt) > instance.HostLease
	if silent {
		running, err := w.watcher.Sweep(ctx)
		if err != nil {
			return err
		}
		if running > 0 {
			w.log.WarnContext(ctx, "host is cleaned before it is alive again", slog.Int("orphans", running))
			return nil
		}
	}
	beat := w.instances.BeatAgain
	if silent {
		beat = w.instances.Beat
	}
	began := time.Now()
	err := beat(ctx, w.host)
	switch {
	case errors.Is(err, instance.ErrHostSilent):
		w.beatAt = time.Time{}
	case err == nil:
		w.beatAt = began
	}
	return err
}

// work runs the River client. It outlives ctx until the jobs under way have ended.
func (w *worker) work(ctx context.Context) error {
	lasting := context.WithoutCancel(ctx)
	for {
		err := w.client.Start(lasting)
		if err == nil {
			break
		}
		w.log.WarnContext(ctx, "jobs cannot start yet", slog.Any("error", err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	<-ctx.Done()
	grace, cancel := context.WithTimeout(lasting, w.cfg.StopGrace)
	defer cancel()
	if err := w.client.Stop(grace); err != nil {
		return w.client.StopAndCancel(lasting)
	}
	return ctx.Err()
}

// stopEngines ends this host's engines. Their rows stay, so the next worker starts them again.
func (w *worker) stopEngines(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*w.cfg.StopGrace)
	defer cancel()
	for {
		found, err := w.driver.List(ctx)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, f := range found {
			if _, err := w.driver.Remove(ctx, f.ReplicaID); err != nil {
				w.log.WarnContext(ctx, "engine cannot be ended", slog.String("replica", f.ReplicaID), slog.Any("error", err))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d engines did not end in time", len(found))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
