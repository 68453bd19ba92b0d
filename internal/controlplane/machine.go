package controlplane

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// machineFile holds what tells this machine from another one of the same host name. It lies beside what is known about the
// engines, because that is what a second machine would not know.
const machineFile = "machine"

// machineID returns what the directory's machine is called, and calls it something the first time.
func machineID(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // engines' users enter it
		return "", err
	}
	path := filepath.Join(dir, machineFile)
	text, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return string(text), err
	}
	fresh, err := os.CreateTemp(dir, machineFile+".")
	if err != nil {
		return "", err
	}
	defer os.Remove(fresh.Name())
	_, err = fresh.WriteString(rand.Text())
	if err := errors.Join(err, fresh.Sync(), fresh.Close()); err != nil {
		return "", err
	}
	if err := os.Link(fresh.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) { // two workers may start at once
		return "", err
	}
	text, err = os.ReadFile(path)
	return string(text), err
}
