package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is one of our binaries, started by a test.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  output
	done chan struct{}
	err  error

	silent atomic.Bool // what it printed is not shown
}

// output is the file that a process prints to; it may be read at any time.
type output struct{ *os.File }

func (o output) String() string {
	text, err := os.ReadFile(o.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// shownOutput is how much of the end of it a failed test shows.
const shownOutput = 256 << 10

// start runs a binary until the test ends. What it printed is shown when the test failed.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, env, name, exec.Command(filepath.Join(binaries, name), args...))
}

// startCommand is start of any command.
func startCommand(t testing.TB, env []string, name string, cmd *exec.Cmd) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), name)
	require.NoError(t, err)
	p := &process{t: t, cmd: cmd, log: output{log}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && !p.silent.Load() {
			text := p.log.String()
			t.Logf("--- %s printed:\n%s", name, text[max(0, len(text)-shownOutput):])
		}
		log.Close()
	})
	return p
}

// kill ends the process as a crash does.
func (p *process) kill() { p.signal(syscall.SIGKILL, 5*time.Second) }

// stop ends the process in order.
func (p *process) stop() { p.signal(syscall.SIGTERM, 40*time.Second) }

func (p *process) signal(s syscall.Signal, limit time.Duration) {
	p.t.Helper()
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Errorf("%s did not end within %s of %s", p.cmd.Path, limit, s)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// eventually waits until what holds, looking often.
func eventually(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			require.FailNow(t, "not within "+limit.String()+": "+what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
