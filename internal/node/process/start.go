package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

// start starts the engine. The caller holds the lock, and the engine inherits it.
func (d *Driver) start(spec node.Spec, lock *os.File) error {
	path, err := lookPath(d.config.Command[0])
	if err != nil {
		return err
	}
	f := d.files(spec.ReplicaID)
	if err := errors.Join(f.forget(), d.makeHome(f)); err != nil {
		return fmt.Errorf("prepare the replica's directory: %w", err)
	}
	environment, err := d.environment(spec)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(f.path(logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the engine's log: %w", err)
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: path, Args: slices.Concat(d.config.Command, spec.Args), Env: environment, Dir: f.home(),
		Stdout: log, Stderr: log, ExtraFiles: []*os.File{lock},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Credential: d.account.credential},
	}
	if err := cmd.Start(); err != nil {
		return d.explain(err, f)
	}
	return d.watch(cmd, spec, f)
}

// watch records the engine that was just started, and its end when that comes.
func (d *Driver) watch(cmd *exec.Cmd, spec node.Spec, f files) error {
	d.config.Logger.Info("engine started", "replica", spec.ReplicaID, "generation", spec.Generation, "pid", cmd.Process.Pid)
	e := engine{Generation: spec.Generation, StartedAt: time.Now().Round(time.Millisecond)}
	s, err := readStat(cmd.Process.Pid) // an engine that has ended already is there until Wait
	e.identity = s.identity()
	reported := make(chan struct{})
	d.ours.Store(e.identity, reported)
	if err == nil {
		err = f.write(engineFile, e)
	}
	go func() {
		_ = cmd.Wait()
		how := howEnded(cmd.ProcessState)
		_ = f.write(exitFile, ending{identity: e.identity, How: how}) // fails where Remove was faster
		close(reported)
		d.ours.Delete(e.identity)
		d.config.Logger.Info("engine ended", "replica", spec.ReplicaID, "generation", spec.Generation, "pid", e.PID, "how", how)
	}()
	if err != nil {
		return fmt.Errorf("record the engine: %w", err)
	}
	return nil
}

// awaitReport waits until the end of a child of ours is written down, which is at once.
func (d *Driver) awaitReport(ctx context.Context, id identity) {
	reported, ok := d.ours.Load(id)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	select {
	case <-reported.(chan struct{}):
	case <-ctx.Done():
	}
}

func howEnded(state *os.ProcessState) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("was ended by signal %d (%s)", status.Signal(), status.Signal())
	}
	return fmt.Sprintf("ended with status %d", state.ExitCode())
}

// makeHome makes the one directory that is the engine's own.
func (d *Driver) makeHome(f files) error {
	if err := os.Mkdir(f.home(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if d.account.credential == nil {
		return nil
	}
	// The worker's umask may have closed the directory to the engine's user.
	return errors.Join(os.Chmod(f.dir, 0o711), os.Lchown(f.home(), d.account.uid, d.account.gid))
}

// environment is all that the engine gets to know: of the worker's own nothing but PATH and vllm.HostVariables.
func (d *Driver) environment(spec node.Spec) ([]string, error) {
	variables := []string{
		"PATH=" + searchPath(),
		"HOME=" + d.files(spec.ReplicaID).home(),
		"LANG=C.UTF-8",
		"USER=" + d.account.name,
		"LOGNAME=" + d.account.name,
		"SPT_NOENV=1", // keeps setproctitle, which vLLM uses, from writing over the environment and so over the marker
	}
	if d.config.Models != "" && os.Getenv(vllm.ModelsVariable) == "" {
		variables = append(variables, vllm.ModelsVariable+"="+d.config.Models)
	}
	for _, name := range vllm.HostVariables {
		if value := os.Getenv(name); value != "" {
			variables = append(variables, name+"="+value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Env)) {
		value := spec.Env[name]
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return nil, fmt.Errorf("the environment variable %q cannot be passed to an engine", name)
		}
		variables = append(variables, name+"="+value)
	}
	if !spec.Key.IsZero() {
		variables = append(variables, vllm.KeyVariable+"="+spec.Key.Reveal())
	}
	return append(variables, marker(d.config.Installation, spec.ReplicaID, spec.Generation)), nil
}

func searchPath() string {
	if path := os.Getenv("PATH"); path != "" {
		return path
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// lookPath finds the engine's program, as an absolute path: the engine starts in another directory.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("the engine's command %q cannot be run on this host: install vLLM, or set VLLM_COMMAND to the program that starts it: %w", program, err)
	}
	return path, nil
}

// explain turns the kernel's terse refusal to start an engine into what to do about it.
func (d *Driver) explain(err error, f files) error {
	if errors.Is(err, fs.ErrPermission) {
		if why := errors.Join(d.account.mayEnter(f.dir), d.account.mayRun(d.config.Command[0])); why != nil {
			return fmt.Errorf("start the engine: %w", why)
		}
	}
	return fmt.Errorf("start the engine's command %q: %w", d.config.Command[0], err)
}
