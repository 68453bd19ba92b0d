package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocketPath is what fits into a Unix socket address, less its terminating zero.
const maxSocketPath = 107

const socketName = ".s.PGSQL.5432"

// socketDir makes the folder of the socket, which only the server's user (and root) may enter.
func socketDir(config Config, owner User) (string, error) {
	dir := config.SocketDir
	if dir == "" {
		dir = filepath.Join(filepath.Dir(config.DataDir), "run")
		if len(filepath.Join(dir, socketName)) > maxSocketPath {
			hash := sha256.Sum256([]byte(config.DataDir))
			dir = filepath.Join(os.TempDir(), "engineshed-"+hex.EncodeToString(hash[:8]))
		}
	}
	if path := filepath.Join(dir, socketName); len(path) > maxSocketPath {
		return "", fmt.Errorf("the path of the database socket is longer than the %d bytes that the system allows: %s", maxSocketPath, path)
	}
	if err := os.Mkdir(dir, 0o700); err == nil {
		return dir, owner.Own(dir)
	} else if !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the folder of the database socket: %w", err)
	}
	return dir, checkPrivate(dir, owner)
}

// checkPrivate refuses a folder that somebody else put there, as anybody may in the temporary directory.
func checkPrivate(dir string, owner User) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm() != 0o700 || stat.Uid != owner.UID {
		return fmt.Errorf("%s is not a folder of the user %s with mode 0700: remove it", dir, owner.Name)
	}
	return nil
}
