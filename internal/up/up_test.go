package up

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/node/process"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/secret"
)

func TestTheRootKeyThatIsMadeUpIsAccepted(t *testing.T) {
	t.Parallel()
	box, err := secret.NewBox()
	require.NoError(t, err)
	store := iam.New(pgtest.New(t).Control, box)
	key := newRootKey()
	require.NoError(t, store.EnsureRoot(t.Context(), iam.RootSpec{
		AccountID: key.AccountID, AccountName: "root", KeyID: key.AccessKeyID, Secret: secret.New(key.AccessKeySecret),
	}))
	require.NotEqual(t, key, newRootKey())
}

func TestWhatWasChosenFirstIsKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	first, made, err := readOrMake(path, newState)
	require.NoError(t, err)
	require.True(t, made)
	second, made, err := readOrMake(path, newState)
	require.NoError(t, err)
	require.False(t, made)
	require.Equal(t, first, second)

	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, _, err = readOrMake(path, newState)
	require.ErrorContains(t, err, path)
}

func TestAnAddressBecomesAURLThatThisMachineReaches(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:80": "http://127.0.0.1:80", "0.0.0.0:80": "http://127.0.0.1:80", ":80": "http://127.0.0.1:80",
		"[::]:80": "http://127.0.0.1:80", "[::1]:80": "http://[::1]:80", "gpu.example:80": "http://gpu.example:80",
	} {
		require.Equal(t, want, urlOf(addr))
	}
}

func TestChildrenDoNotSeeWhatIsMeantForUp(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"PATH=/bin", "ALICE_SECRET=a"}, childEnv([]string{
		"PATH=/bin", "ENGINESHED_DATA_DIR=/d", "DATABASE_URL=u", "MIGRATE_DATABASE_URL=u", "PGPASSWORD=p", "VLLM_COMMAND=v", "ALICE_SECRET=a",
	}))
}

func TestAPathIsOneWordOfTheEngineCommand(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/usr/bin/vllm", "/with space/vllm", `/it's "odd"\/vllm`} {
		words, err := process.SplitCommand(quote(path) + " --knob")
		require.NoError(t, err)
		require.Equal(t, []string{path, "--knob"}, words)
	}
}

func TestAChildIsStartedUntilItRuns(t *testing.T) {
	t.Parallel()
	starts := make(chan *fakeChild, 10)
	console := &recorder{}
	attempt := 0
	k := &kept{name: "child", grace: time.Second, console: console, start: func(context.Context) (running, error) {
		if attempt++; attempt == 2 {
			return nil, errors.New("no luck")
		}
		c := &fakeChild{done: make(chan struct{})}
		starts <- c
		return c, nil
	}}
	require.NoError(t, k.keep(t.Context()))
	close((<-starts).done) // it ends by itself; the next start fails, the one after that succeeds
	second := <-starts
	require.Contains(t, console.notices(), "child does not start: no luck")
	require.Eventually(t, func() bool { return *k.current.Load() == running(second) }, time.Minute, time.Millisecond)
	k.signal(syscall.SIGHUP)
	k.stop()
	require.Equal(t, []string{"hangup", "stop"}, second.calls)
}

type fakeChild struct {
	done  chan struct{}
	calls []string
}

func (c *fakeChild) Done() <-chan struct{}        { return c.done }
func (c *fakeChild) Stop(context.Context) error   { c.calls = append(c.calls, "stop"); return nil }
func (c *fakeChild) Signal(signal syscall.Signal) { c.calls = append(c.calls, signal.String()) }

// recorder is a Console.
type recorder struct {
	mu   sync.Mutex
	said string
}

func (r *recorder) Step(_ string, do func() (string, error)) error {
	_, err := do()
	return err
}

func (r *recorder) Notice(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said += fmt.Sprintln(text)
}

func (r *recorder) notices() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said
}
