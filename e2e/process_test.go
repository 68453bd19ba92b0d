package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is one of our binaries, started by a test.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *output
	done chan struct{}
	err  error
}

// output collects what a process prints; it may be read at any time.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs a binary until the test ends. What it printed is shown when the test failed.
func start(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(filepath.Join(binaries, name), args...), log: new(output), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.WaitDelay = time.Second // engines may hold the pipe longer than the process lives
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("--- %s printed:\n%s", name, p.log)
		}
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
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			require.FailNow(t, "not within "+limit.String()+": "+what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
