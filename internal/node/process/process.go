// Package process runs engines as processes of this host.
//
// What it knows about a replica lies in a directory of the replica's own, and in the kernel: the engine inherits a
// locked descriptor, so the lock is held exactly as long as the engine lives, whoever started it; and every process of
// the engine carries a marker in its environment, so it is found also when the directory says nothing.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/node"
)

// Config is what a driver needs to know.
type Config struct {
	Command      []string      // the engine's program and its first arguments; a Spec's Args follow
	Dir          string        // where every replica gets a directory; the engines' user must be able to enter it
	Installation string        // tells this installation's engines from those of another one on the same host
	User         string        // who engines run as when the worker is root; "": engineshed if there is one, else nobody
	Models       string        // where this host's engines keep the files of models, together; "": each in its own home
	Grace        time.Duration // from Remove's request to end until it kills; 0: 10 s
	Logger       *slog.Logger  // nil: slog.Default()
}

// Driver is the node.Driver of this host's processes.
type Driver struct {
	config  Config
	account account
	client  *http.Client
	healthy sync.Map // replica id → identity of the engine that has been healthy
	ours    sync.Map // identity of a child of this process → chan struct{}, closed when its end is written down
}

var _ node.Driver = (*Driver)(nil)

const (
	defaultGrace  = 10 * time.Second
	healthTimeout = time.Second
	claimTimeout  = 5 * time.Second
	claimPause    = 20 * time.Millisecond
)

// plainName is what installations and replica ids look like: a directory's name and a part of the marker.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// New checks c and makes its directory. It does not ask for the command: a host may get its engine later.
func New(c Config) (*Driver, error) {
	c.Grace = cmp.Or(c.Grace, defaultGrace)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	account, err := findAccount(c.User)
	dir, dirErr := filepath.Abs(c.Dir)
	c.Dir = dir
	var complaints []error
	if len(c.Command) == 0 {
		complaints = append(complaints, errors.New("no engine command: give one, such as vllm"))
	}
	if !plainName.MatchString(c.Installation) {
		complaints = append(complaints, fmt.Errorf("the installation %q must be letters, digits, dots and dashes", c.Installation))
	}
	if err := errors.Join(append(complaints, err, dirErr)...); err != nil {
		return nil, fmt.Errorf("engines as processes: %w", err)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("directory of the replicas: %w", err)
	}
	d := &Driver{config: c, account: account, client: healthClient()}
	return d, d.makeModels()
}

// makeModels makes the directory of the models' files, which is the engines' own.
func (d *Driver) makeModels() error {
	if d.config.Models == "" {
		return nil
	}
	err := os.MkdirAll(d.config.Models, 0o755)
	if err == nil && d.account.credential != nil {
		err = os.Lchown(d.config.Models, d.account.uid, d.account.gid)
	}
	if err != nil {
		return fmt.Errorf("directory of the models: %w", err)
	}
	return nil
}

// Ensure starts the engine of spec unless the replica has one.
func (d *Driver) Ensure(ctx context.Context, spec node.Spec) error {
	if !plainName.MatchString(spec.ReplicaID) {
		return fmt.Errorf("replica id %q: must be letters, digits, dots and dashes", spec.ReplicaID)
	}
	lock, err := d.claim(ctx, spec.ReplicaID)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	if _, running, err := d.find(spec.ReplicaID); err != nil || running { // its engine closed the descriptor it was given
		return err
	}
	if err := d.killAll(ctx, spec.ReplicaID); err != nil {
		return err
	}
	return d.start(spec, lock)
}

// claim takes the replica's lock. It returns nil when an engine runs, and an error when the lock stays taken although
// none does.
func (d *Driver) claim(ctx context.Context, replicaID string) (*os.File, error) {
	deadline := time.Now().Add(claimTimeout)
	for {
		if _, running, err := d.find(replicaID); err != nil || running {
			return nil, err
		}
		lock, err := d.files(replicaID).makeAndLock()
		if err == nil || !errors.Is(err, errTaken) {
			return lock, err
		}
		d.killLeftovers(replicaID)
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("replica %s: another worker is starting or removing its engine", replicaID)
		}
		if err := sleep(ctx, claimPause); err != nil {
			return nil, err
		}
	}
}

// find returns the engine that was started last and whether it runs. The record decides; where a worker was killed
// before it could write one, the marker does, and the record is made up for.
func (d *Driver) find(replicaID string) (e engine, running bool, err error) {
	f := d.files(replicaID)
	e, ok, err := f.engine()
	if err != nil || ok {
		return e, ok && e.runs(), err
	}
	processes, err := scan(d.config.Installation, replicaID)
	for _, p := range processes {
		if p.leads() {
			e := p.engine()
			f.adopt(e)
			return e, true, nil
		}
	}
	return engine{}, false, err
}

// killLeftovers kills what an ended engine left running, which may hold the lock. Unlike killAll it may be called
// without the lock: a record that has not changed tells that no worker has started an engine meanwhile.
func (d *Driver) killLeftovers(replicaID string) {
	f := d.files(replicaID)
	before, ok, _ := f.engine()
	if !ok || before.runs() {
		return
	}
	left, _ := scan(d.config.Installation, replicaID)
	if after, ok, _ := f.engine(); ok && after.identity == before.identity {
		signalEach(left, syscall.SIGKILL)
	}
}

// killAll kills every process of the replica and returns when they are gone. The caller holds the lock.
func (d *Driver) killAll(ctx context.Context, replicaID string) error {
	deadline := time.Now().Add(claimTimeout)
	for {
		left, err := scan(d.config.Installation, replicaID)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("replica %s: process %d of its last engine does not end", replicaID, left[0].pid)
		}
		signalEach(left, syscall.SIGKILL)
		if err := sleep(ctx, claimPause); err != nil {
			return err
		}
	}
}

// Observe looks at the replica's engine.
func (d *Driver) Observe(ctx context.Context, replicaID, addr string) (node.Observation, error) {
	if !plainName.MatchString(replicaID) {
		return node.Observation{State: node.Absent}, nil
	}
	f := d.files(replicaID)
	e, running, err := d.find(replicaID)
	if err != nil {
		return node.Observation{}, fmt.Errorf("look for the engine of %s: %w", replicaID, err)
	}
	if e.PID == 0 {
		return node.Observation{State: node.Absent}, nil
	}
	seen := node.Observation{Generation: e.Generation, StartedAt: e.StartedAt}
	if !running {
		d.awaitReport(ctx, e.identity)
		seen.State = node.Exited
		seen.Reason, seen.Log = f.obituary(e.identity)
		return seen, nil
	}
	f.boundLog()
	seen.State, seen.PID = node.Starting, e.PID
	if d.isHealthy(ctx, replicaID, addr, e) {
		seen.State = node.Healthy
	}
	return seen, ctx.Err()
}

// Log returns the end of the logs in the replica's directory.
func (d *Driver) Log(_ context.Context, replicaID string, limit int) (log node.Log, err error) {
	if !plainName.MatchString(replicaID) {
		return log, nil
	}
	f := d.files(replicaID)
	e, _, err := f.engine()
	log.Generation = e.Generation
	text, end := readEnd(f.path(logFile), int64(limit))
	previous, _ := readEnd(f.path(lastLogFile), int64(limit))
	log.Text, log.Offset, log.Previous = legible(text), end, legible(previous)
	return log, err
}

// Remove takes one step towards no engine.
func (d *Driver) Remove(_ context.Context, replicaID string) (bool, error) {
	if !plainName.MatchString(replicaID) {
		return true, nil
	}
	f := d.files(replicaID)
	processes, err := scan(d.config.Installation, replicaID)
	if err != nil {
		return false, err
	}
	if len(processes) > 0 {
		return false, d.end(f, processes)
	}
	lock, err := f.lock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case errors.Is(err, errTaken): // a worker is starting an engine; or a child of this one is between fork and exec
		return false, nil
	case err != nil:
		return false, err
	}
	defer lock.Close()
	if processes, err := scan(d.config.Installation, replicaID); err != nil || len(processes) > 0 {
		return false, err
	}
	d.healthy.Delete(replicaID)
	err = os.RemoveAll(f.dir)
	switch {
	case errors.Is(err, syscall.ENOTEMPTY): // the report of the engine's end arrived just now
		return false, nil
	case err != nil:
		return false, fmt.Errorf("remove the replica's directory: %w", err)
	}
	return true, nil
}

// end asks the processes to end, or kills them when they were asked longer than the grace period ago.
func (d *Driver) end(f files, processes []process) error {
	asked, ok := f.asked()
	if !ok {
		signalGroups(processes, syscall.SIGTERM)
		signalGroups(processes, syscall.SIGCONT) // a stopped one could not do what it is asked for
		return f.noteAsked(time.Now())
	}
	if waited := time.Since(asked); waited >= d.config.Grace || waited < 0 {
		signalGroups(processes, syscall.SIGKILL)
	}
	return nil
}

// List returns the engines of this installation, one per replica: the engine itself, what it left running, or its files.
func (d *Driver) List(context.Context) ([]node.Found, error) {
	processes, err := scan(d.config.Installation, "")
	if err != nil {
		return nil, err
	}
	byReplica := map[string]process{}
	for _, p := range processes {
		if first, ok := byReplica[p.replica]; !ok || (p.leads() && !first.leads()) {
			byReplica[p.replica] = p
		}
	}
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return nil, err
	}
	var found []node.Found
	for _, p := range byReplica {
		found = append(found, node.Found{ReplicaID: p.replica, Generation: p.generation, PID: p.pid})
	}
	for _, entry := range entries {
		if _, runs := byReplica[entry.Name()]; !runs && entry.IsDir() && plainName.MatchString(entry.Name()) {
			found = append(found, node.Found{ReplicaID: entry.Name()})
		}
	}
	slices.SortFunc(found, func(a, b node.Found) int { return cmp.Compare(a.ReplicaID, b.ReplicaID) })
	return found, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
