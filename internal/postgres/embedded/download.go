package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// DownloadVersion is the Postgres that Download fetches.
const DownloadVersion = "17.11.0"

// archive is one file of Maven Central, named by its content.
type archive struct {
	platform string // as Maven names it
	sha256   string
}

// archives are the builds of DownloadVersion by Go's name of the platform.
var archives = map[string]archive{
	"linux/amd64": {"linux-amd64", "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d"},
	"linux/arm64": {"linux-arm64v8", "8b042e0ea418b1927d95399207950da0734d27fe01e29503ade3bdc464ad4c2b"},
}

const (
	mavenCentral    = "https://repo1.maven.org/maven2"
	downloadTimeout = 5 * time.Minute
	maxDownload     = 64 << 20
)

// Download returns the folder of a Postgres from Maven Central, which is fetched, checked against a fixed SHA-256 and
// kept in the cache the first time.
func Download(ctx context.Context) (string, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	known, ok := archives[platform]
	if !ok {
		return "", fmt.Errorf("no Postgres (version %d or newer) was found, and there is none to download for %s: install one, or set DATABASE_URL", OldestMajor, platform)
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir, err := download(ctx, mavenCentral, known, cache)
	if err != nil {
		return "", fmt.Errorf("no Postgres (version %d or newer) was found, and the download failed: %w\nInstall one (Debian, Ubuntu: apt-get install postgresql), or set DATABASE_URL", OldestMajor, err)
	}
	return dir, nil
}

// cacheDir is a folder that the user Postgres runs as can enter.
func cacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/engineshed", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "engineshed"), err
}

func download(ctx context.Context, base string, from archive, cache string) (string, error) {
	target := filepath.Join(cache, "postgres-"+DownloadVersion+"-"+from.platform)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(cache, "download.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(target); err == nil {
		return filepath.Join(target, "bin"), nil
	}
	jar, err := fetch(ctx, base, from, cache)
	if err != nil {
		return "", err
	}
	defer os.Remove(jar)
	fresh := target + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return "", err
	}
	if err := errors.Join(unpackJar(jar, fresh), os.Chmod(cache, 0o755)); err != nil {
		return "", errors.Join(fmt.Errorf("unpack %s: %w", filepath.Base(jar), err), os.RemoveAll(fresh))
	}
	return filepath.Join(target, "bin"), os.Rename(fresh, target)
}

// fetch stores the archive in a file whose content has been checked.
func fetch(ctx context.Context, base string, from archive, cache string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	name := "embedded-postgres-binaries-" + from.platform
	url := fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%s-%s.jar", base, name, DownloadVersion, name, DownloadVersion)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", url, response.Status)
	}
	return store(response.Body, url, from.sha256, cache)
}

func store(body io.Reader, url, want, cache string) (_ string, err error) {
	file, err := os.CreateTemp(cache, "download-*.jar")
	if err != nil {
		return "", err
	}
	defer func() {
		file.Close()
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, hash), io.LimitReader(body, maxDownload+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", url, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); size > maxDownload || got != want {
		return "", fmt.Errorf("%s is not the file it should be: its SHA-256 is %s, expected %s", url, got, want)
	}
	return file.Name(), file.Sync()
}

// lockFile waits for the lock on path and returns how to let it go.
func lockFile(path string) (func(), error) {
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
