package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// files are what a replica has on disk. The directory belongs to the worker, so that an engine cannot plant links or
// records in it; only home is the engine's own.
type files struct{ dir string }

func (d *Driver) files(replicaID string) files { return files{filepath.Join(d.config.Dir, replicaID)} }

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) home() string { return f.path("home") }

const (
	lockFile    = "lock"
	engineFile  = "engine.json"  // the engine that was started last
	healthyFile = "healthy.json" // its identity, once it has been healthy
	exitFile    = "exit.json"    // how it ended
	askedFile   = "asked"        // when it was asked to end
	logFile     = "engine.log"
	lastLogFile = "engine.log.1"
)

// engine is the record of the engine that was started last.
type engine struct {
	identity
	Generation int64     `json:"generation"`
	StartedAt  time.Time `json:"startedAt"`
}

// ending is the record of how an engine ended.
type ending struct {
	identity
	How string `json:"how"`
}

func (f files) engine() (e engine, ok bool, err error) {
	ok, err = f.read(engineFile, &e)
	return e, ok, err
}

// adopt records an engine that was found running, unless a record has come meanwhile.
func (f files) adopt(e engine) {
	temporary, err := f.temporary(e)
	if err != nil {
		return // no matter: the engine is found again by its marker
	}
	_ = os.Link(temporary, f.path(engineFile))
	_ = os.Remove(temporary)
}

func (f files) asked() (time.Time, bool) {
	text, err := os.ReadFile(f.path(askedFile))
	if err != nil {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(text))
	return at, err == nil
}

func (f files) noteAsked(at time.Time) error {
	if err := os.MkdirAll(f.dir, 0o711); err != nil {
		return err
	}
	return os.WriteFile(f.path(askedFile), []byte(at.Format(time.RFC3339Nano)), 0o600)
}

// forget removes what was noted about the last engine; its log becomes the last log.
func (f files) forget() error {
	for _, name := range []string{engineFile, healthyFile, exitFile, askedFile} {
		if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(f.path(logFile), f.path(lastLogFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// read reads a record; one that is not there, or was cut by a full disk, counts as none.
func (f files) read(name string, record any) (ok bool, err error) {
	data, err := os.ReadFile(f.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && json.Unmarshal(data, record) == nil, err
}

// write replaces a record as a whole.
func (f files) write(name string, record any) error {
	temporary, err := f.temporary(record)
	if err != nil {
		return err
	}
	return os.Rename(temporary, f.path(name))
}

func (f files) temporary(record any) (string, error) {
	data, err := json.Marshal(record)
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp(f.dir, ".new-*")
	if err != nil {
		return "", err
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(file.Name())
		return "", err
	}
	return file.Name(), nil
}

// errTaken says that another process holds the replica's lock: a worker, or the engine itself.
var errTaken = errors.New("the replica's lock is taken")

// makeAndLock makes the replica's directory and takes its lock.
func (f files) makeAndLock() (*os.File, error) {
	if err := os.Mkdir(f.dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make the replica's directory: %w", err)
	}
	lock, err := f.lock()
	if errors.Is(err, os.ErrNotExist) { // removed since
		return nil, errTaken
	}
	return lock, err
}

// lock takes the replica's lock. The lock lives as long as any copy of the returned descriptor, in any process.
func (f files) lock() (*os.File, error) {
	file, err := os.OpenFile(f.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = errTaken
	case err == nil && !f.isLock(file): // another worker removed the file before we locked it
		err = errTaken
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (f files) isLock(file *os.File) bool {
	opened, err1 := file.Stat()
	named, err2 := os.Stat(f.path(lockFile))
	return err1 == nil && err2 == nil && os.SameFile(opened, named)
}

// obituary says for a person how the engine ended, with the last lines of its log.
func (f files) obituary(id identity) (reason, log string) {
	how := "ended; how is not known, because the worker that started it was gone"
	var last ending
	if ok, _ := f.read(exitFile, &last); ok && last.identity == id {
		how = last.How
	}
	log = logTail(f.path(logFile))
	reason = "the engine " + how
	if line := log[strings.LastIndexByte(log, '\n')+1:]; line != "" {
		reason += ": " + strings.ToValidUTF8(line[:min(len(line), maxLine)], "")
	}
	return reason, log
}
