package child_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/child"
)

// parentMode makes TestMain be a parent that starts a child and waits to be killed.
const parentMode = "CHILD_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentMode) != "" {
		process, err := child.Start(exec.Command("sleep", "600"), syscall.SIGKILL)
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(process.PID())
		select {}
	}
	os.Exit(m.Run())
}

func TestAChildEndsWithItsParent(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentMode+"=1")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	require.Eventually(t, func() bool { return !isRunning(pid) }, 10*time.Second, 5*time.Millisecond)
}

func TestAChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	started := make(chan *child.Process)
	go func() {
		runtime.LockOSThread() // and end with the goroutine, which ends the thread
		process, err := child.Start(exec.Command("sleep", "600"), syscall.SIGKILL)
		if err != nil {
			panic(err)
		}
		started <- process
	}()
	process := <-started
	for range 50 {
		runtime.GC()
	}
	require.True(t, isRunning(process.PID()))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.Error(t, process.Stop(ctx)) // signal: terminated
	require.False(t, isRunning(process.PID()))
}

func TestAChildThatDoesNotEndIsKilled(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/bin/sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.05; done`)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = write
	process, err := child.Start(cmd, syscall.SIGKILL)
	require.NoError(t, err)
	write.Close()
	_, err = bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, process.Stop(ctx), context.DeadlineExceeded)
	require.ErrorContains(t, process.Err(), "killed")
}

func TestAProgramThatIsMissingIsAnError(t *testing.T) {
	t.Parallel()
	_, err := child.Start(exec.Command("/does/not/exist"), syscall.SIGKILL)
	require.Error(t, err)
}

// isRunning is false for a zombie, which a killed parent's child may be until it is reaped.
func isRunning(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}
