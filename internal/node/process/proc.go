package process

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// markerVariable is in the environment of every process of an engine: <installation>/<replica>/<generation>.
const markerVariable = "ENGINESHED_REPLICA"

func marker(installation, replicaID string, generation int64) string {
	return fmt.Sprintf("%s=%s/%s/%d", markerVariable, installation, replicaID, generation)
}

// identity tells a process from every other one, also from a later one with the same pid.
type identity struct {
	Boot  string `json:"boot"` // the kernel's boot id
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot
}

// runs reports whether the process exists. One that has ended and was not waited for does not.
func (id identity) runs() bool {
	if id.PID == 0 || id.Boot != bootID {
		return false
	}
	s, err := readStat(id.PID)
	if err != nil {
		return !isGone(err) // what cannot be seen for want of a descriptor is not gone
	}
	return s.start == id.Start && !s.ended()
}

// isGone reports whether reading /proc/PID failed because the process has ended.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// bootID is the same until the machine is started again.
var bootID = func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}()

// stat is what /proc/PID/stat says.
type stat struct {
	pid, group, session int
	state               byte
	start               uint64
}

func (s stat) ended() bool { return s.state == 'Z' || s.state == 'X' }

func (s stat) identity() identity { return identity{Boot: bootID, PID: s.pid, Start: s.start} }

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The second field is the program's name in parentheses, and may hold anything.
	rest := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(rest) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(rest))
	}
	s := stat{pid: pid, state: rest[0][0]}
	var errs [3]error
	s.group, errs[0] = strconv.Atoi(rest[2])
	s.session, errs[1] = strconv.Atoi(rest[3])
	s.start, errs[2] = strconv.ParseUint(rest[19], 10, 64)
	return s, errors.Join(errs[:]...)
}

// process is a running process that carries a marker.
type process struct {
	stat
	installation string
	replica      string
	generation   int64
}

// leads reports whether the process leads its session, as the engine itself does and its children do not.
func (p process) leads() bool { return p.pid == p.session }

func (p process) engine() engine {
	return engine{identity: p.identity(), Generation: p.generation, StartedAt: startTime(p.start)}
}

// startTime turns ticks after boot into a time; /proc counts 100 of them a second on every Linux.
func startTime(ticks uint64) time.Time {
	var sinceBoot unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &sinceBoot)
	age := time.Duration(sinceBoot.Nano()) - time.Duration(ticks)*(time.Second/100)
	return time.Now().Add(-age).Round(time.Millisecond)
}

// scan returns the running processes with the marker of the installation, of one replica or, with "", of all; oldest
// first. Processes that may not be looked at belong to others and are passed over.
func scan(installation, replicaID string) ([]process, error) {
	prefix := markerVariable + "=" + installation + "/"
	if replicaID != "" {
		prefix += replicaID + "/"
	}
	return scanFor([]byte(prefix))
}

func scanFor(prefix []byte) ([]process, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	var found []process
	for _, pid := range all {
		environment, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil && !isGone(err) && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if !hasVariable(environment, prefix) {
			continue
		}
		p, ok := parseMarker(environment)
		if !ok {
			continue
		}
		if p.stat, err = readStat(pid); err == nil && !p.ended() {
			found = append(found, p)
		} else if err != nil && !isGone(err) {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b process) int { return cmp.Compare(a.start, b.start) })
	return found, nil
}

// pids are the processes of this host but this one.
func pids() ([]int, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() {
			all = append(all, pid)
		}
	}
	return all, nil
}

// hasVariable reports whether a variable of the environment begins with prefix.
func hasVariable(environment, prefix []byte) bool {
	return bytes.HasPrefix(environment, prefix) || bytes.Contains(environment, append([]byte{0}, prefix...))
}

func parseMarker(environment []byte) (process, bool) {
	for variable := range bytes.SplitSeq(environment, []byte{0}) {
		value, ok := strings.CutPrefix(string(variable), markerVariable+"=")
		if !ok {
			continue
		}
		parts := strings.Split(value, "/")
		if len(parts) != 3 {
			return process{}, false
		}
		generation, err := strconv.ParseInt(parts[2], 10, 64)
		return process{installation: parts[0], replica: parts[1], generation: generation}, err == nil
	}
	return process{}, false
}

// signalEach signals exactly the given processes: a pid that was given to another process since is left alone.
func signalEach(processes []process, signal syscall.Signal) {
	for _, p := range processes {
		fd, err := unix.PidfdOpen(p.pid, 0)
		if err != nil {
			continue // it has ended
		}
		if p.identity().runs() {
			_ = unix.PidfdSendSignal(fd, signal, nil, 0)
		}
		_ = unix.Close(fd)
	}
}

// signalGroups signals the processes' groups once each, so that children without the marker are reached too.
func signalGroups(processes []process, signal syscall.Signal) {
	var done []int
	for _, p := range processes {
		if p.group > 1 && p.group != syscall.Getpgrp() && !slices.Contains(done, p.group) {
			done = append(done, p.group)
			_ = syscall.Kill(-p.group, signal)
		}
	}
}
