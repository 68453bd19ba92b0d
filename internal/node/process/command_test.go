package process_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/node/process"
)

func TestSplitCommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`vllm`:                          {"vllm"},
		`/opt/v/bin/vllm`:               {"/opt/v/bin/vllm"},
		`python -m "vllm x" 'a b' c\ d`: {"python", "-m", "vllm x", "a b", "c d"},
		`sh -c 'a; b | c > d'`:          {"sh", "-c", "a; b | c > d"},
		`vllm --x=$HOME`:                {"vllm", "--x=$HOME"},
		`vllm ""`:                       {"vllm", ""},
	} {
		got, err := process.SplitCommand(line)
		require.NoError(t, err, line)
		require.Equal(t, want, got, line)
	}
}

func TestSplitCommandRefusesWhatNeedsAShell(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"", "  ", "vllm; rm x", "vllm | tee log", "vllm > log", "vllm && x", `vllm "open`, "vllm (x)"} {
		_, err := process.SplitCommand(line)
		require.Error(t, err, line)
	}
}

func TestFreeAddrCanBeListenedOn(t *testing.T) {
	t.Parallel()
	addr, err := process.FreeAddr("127.0.0.1")
	require.NoError(t, err)
	listener, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	listener.Close()
	_, err = process.FreeAddr("192.0.2.1")
	require.ErrorContains(t, err, "192.0.2.1")
}

func TestCheckDirNamesTheClosedDirectory(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	require.NoError(t, process.CheckDir(filepath.Join(dir, "not", "there", "yet"), ""))
	closed := filepath.Join(dir, "closed")
	require.NoError(t, os.Mkdir(closed, 0o600))
	err := process.CheckDir(filepath.Join(closed, "replicas"), "")
	require.ErrorContains(t, err, "may not enter "+closed+" ")
	require.ErrorContains(t, err, "chmod a+x")
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	require.NoError(t, process.CheckCommand([]string{sim}, ""))
	require.NoError(t, process.CheckCommand([]string{"sh"}, ""))
	require.ErrorContains(t, process.CheckCommand([]string{"no-such-engine"}, ""), "install vLLM")
	closed := filepath.Join(newDir(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o755))
	program := filepath.Join(closed, "engine")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	require.NoError(t, process.CheckCommand([]string{program}, ""))
	if os.Geteuid() == 0 { // for others the closed directory is simply not found
		require.NoError(t, os.Chmod(closed, 0o700))
		require.ErrorContains(t, process.CheckCommand([]string{program}, ""), "may not enter "+closed)
	}
}

func TestEngineInAClosedPlaceIsExplained(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	program := filepath.Join(dir, "engine")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700))
	driver := newDriver(t, process.Config{Command: []string{program}, Dir: newDir(t), Installation: newInstallation()})
	spec := newSpec(t, "re-closed")
	t.Cleanup(func() { remove(t, driver, spec.ReplicaID) })
	if os.Geteuid() == 0 {
		require.ErrorContains(t, driver.Ensure(t.Context(), spec), "may not run "+program)
	}
}
