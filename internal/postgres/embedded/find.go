package embedded

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// OldestMajor is the oldest Postgres that the schema works on (UNIQUE NULLS NOT DISTINCT).
const OldestMajor = 15

// usualPlaces are where packages put Postgres without putting the server on the PATH.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // the PostgreSQL packages for Red Hat
	"/usr/libexec/postgresql*",  // Alpine
	"/usr/local/pgsql/bin",      // from source
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
}

// Find returns the folder of postgres and initdb: of an installed Postgres, else of one that is downloaded once.
func Find(ctx context.Context) (string, error) {
	if dir, ok := Installed(ctx); ok {
		return dir, nil
	}
	return Download(ctx)
}

// Installed finds a Postgres on this machine: on the PATH, else the newest in the usual places.
func Installed(ctx context.Context) (string, bool) {
	var onPath string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			onPath = filepath.Dir(path)
		}
	}
	return installed(ctx, onPath, usualPlaces)
}

func installed(ctx context.Context, onPath string, patterns []string) (string, bool) {
	if onPath != "" && usableMajor(ctx, onPath) >= OldestMajor {
		return onPath, true
	}
	best, bestMajor := "", OldestMajor-1
	for _, pattern := range patterns {
		matches, _ := filepath.Glob(pattern) // fails only for a pattern that is malformed
		for _, dir := range matches {
			if major := usableMajor(ctx, dir); major > bestMajor {
				best, bestMajor = dir, major
			}
		}
	}
	return best, best != ""
}

// usableMajor is the major version of a folder that holds a whole server, else 0.
func usableMajor(ctx context.Context, dir string) int {
	for _, program := range []string{"postgres", "initdb"} {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return 0
		}
	}
	text, err := MajorVersion(ctx, dir)
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(text) // a development version, "18devel", is not one to choose by itself
	return major
}
