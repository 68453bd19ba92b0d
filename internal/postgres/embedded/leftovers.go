package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// leftoverTimeout bounds the wait for the server of a killed parent. The kernel told it to stop when the parent died.
const leftoverTimeout = 10 * time.Second

// stopLeftovers ends what still runs on dataDir: first in order, for the last two seconds at once.
func stopLeftovers(ctx context.Context, dataDir string) error {
	ctx, cancel := context.WithTimeout(ctx, leftoverTimeout)
	defer cancel()
	insist := time.Now().Add(leftoverTimeout - 2*time.Second)
	for asked := false; ; asked = true {
		left, err := processesOn(dataDir)
		if err != nil || len(left) == 0 {
			return err
		}
		switch {
		case time.Now().After(insist):
			signalAll(left, syscall.SIGQUIT)
		case !asked:
			signalAll(left, syscall.SIGINT)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the processes %v still use %s: stop them", left, dataDir)
		case <-time.After(pollInterval):
		}
	}
}

func signalAll(pids []int, signal syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, signal)
	}
}

// processesOn finds the postgres processes that work in dataDir: the server and what it has forked. All of them count:
// a data folder is free when the last one is gone.
func processesOn(dataDir string) ([]int, error) {
	real, err := filepath.EvalSymlinks(dataDir)
	if err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		dir := filepath.Dir(link)
		if target, err := os.Readlink(link); err != nil || target != real {
			continue // another's process, or one that has just ended
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || strings.TrimSpace(string(name)) != "postgres" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, errors.Join(err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
