package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/embedded"
	"github.com/engineshed/engineshed/internal/secret"
)

// password is every role's: nobody but the tests of one user reaches the sockets.
var password = secret.New("pgtest")

// keepCached is how long a cached data folder of another schema or Postgres is kept.
const keepCached = 48 * time.Hour

// cachedData is the data folder of a stopped server with the migrated template, made once for each version of
// Postgres and of the schema: initdb and the migrations take a second and more, a copy a tenth of it.
func cachedData(ctx context.Context, binaries string) (string, error) {
	key, err := cacheKey(ctx, binaries)
	if err != nil {
		return "", err
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = filepath.Join(os.TempDir(), fmt.Sprintf("cache-%d", os.Getuid()))
	}
	dir := filepath.Join(base, "engineshed", "pgtest")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock")) // `go test ./...` runs many binaries at once
	if err != nil {
		return "", err
	}
	defer unlock()
	cached := filepath.Join(dir, key)
	if _, err := os.Stat(cached); err == nil {
		return cached, nil
	}
	removeOld(dir)
	return cached, buildData(ctx, binaries, cached)
}

func cacheKey(ctx context.Context, binaries string) (string, error) {
	version, err := exec.CommandContext(ctx, filepath.Join(binaries, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s/postgres for its version: %w", binaries, err)
	}
	schema, err := postgres.Fingerprint()
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256(fmt.Appendf(nil, "2 %s %s", version, schema))
	return hex.EncodeToString(hash[:16]), nil
}

// buildData makes the data folder from nothing and moves it to cached when it is complete.
func buildData(ctx context.Context, binaries, cached string) error {
	dir, err := tempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	config := config(dir, binaries)
	server, err := embedded.Start(ctx, config)
	if err != nil {
		return err
	}
	err = migrate(ctx, server)
	if err := errors.Join(err, server.Stop(ctx)); err != nil {
		return err
	}
	if err := copyData(config.DataDir, cached+".new"); err != nil {
		return err
	}
	return os.Rename(cached+".new", cached)
}

func migrate(ctx context.Context, server *embedded.Server) error {
	if err := server.EnsureDatabase(ctx, template); err != nil {
		return err
	}
	return postgres.Migrate(ctx, server.URL(template), postgres.RolePasswords{Owner: password, Control: password, Gateway: password})
}

// removeOld forgets the data folders of schemas that nobody has built for a while.
func removeOld(dir string) {
	entries, _ := os.ReadDir(dir) // what cannot be listed is not removed
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && entry.IsDir() && time.Since(info.ModTime()) > keepCached {
			os.RemoveAll(filepath.Join(dir, entry.Name()))
		}
	}
}

// copyData copies a data folder and the password beside it, and gives the copy to the user that Postgres runs as.
func copyData(from, to string) error {
	owner, err := embedded.Unprivileged()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + path[len(from):]
		if entry.IsDir() {
			err = os.Mkdir(target, 0o700)
		} else {
			err = copyFile(path, target)
		}
		return errors.Join(err, owner.Own(target))
	})
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// lock waits for the lock file and returns how to let it go.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
