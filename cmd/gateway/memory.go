package main

import (
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// boundMemory sets GOMEMLIMIT, unless it is set, to nine tenths of what the process's cgroup may use: the collector then
// works harder before the kernel ends the process.
func boundMemory() { _, _ = memlimit.Set() } // without a cgroup, or one that can be read, there is none

// bodyMemory is how much the bodies of requests may take unless it is said: a quarter of GOMEMLIMIT, or of the memory
// that there is, so that as much is left for their garbage and as much again for all else. One body has room in any case.
func bodyMemory(maxBody int64) int64 {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		total, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
		if err != nil {
			return 0
		}
		limit = int64(total)
	}
	return max(limit/4, maxBody)
}
