package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// readKeyFile reads a key file. A file that others may read is refused.
func readKeyFile(path string) (*keyset.Handle, fs.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, nil, fmt.Errorf("%s may be read by others (mode %#o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(f))
	if err != nil {
		return nil, nil, fmt.Errorf("%s is not a key file: %w", path, err)
	}
	return handle, info, nil
}

// CreateKeyFile writes a fresh key to path (mode 0600) unless a file is there already, which it leaves alone.
func CreateKeyFile(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	return writeKeyFile(path, handle, nil)
}

// writeKeyFile replaces a key file, completely or not at all. It belongs to whom the old one belonged to.
func writeKeyFile(path string, handle *keyset.Handle, old fs.FileInfo) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // CreateTemp's mode is 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(f)); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if old != nil {
		owner, ok := old.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("find out whose %s is", path)
		}
		if err := os.Chown(f.Name(), int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return os.Rename(f.Name(), path)
}

// change replaces a key file by what do makes of it; do reports whether there is something to change.
func change(path string, do func(keys *keyset.Handle, manager *keyset.Manager) (bool, error)) (changed bool, err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false, err
	}
	keys, info, err := readKeyFile(path)
	if err != nil {
		return false, err
	}
	manager := keyset.NewManagerFromHandle(keys)
	if changed, err = do(keys, manager); err != nil || !changed {
		return false, err
	}
	if keys, err = manager.Handle(); err != nil {
		return false, err
	}
	return true, writeKeyFile(path, keys, info)
}

// AddKey adds a fresh key to a key file of one key. It is known from then on, and not yet sealed with. A file with more keys
// stays as it is: it is being rotated already.
func AddKey(path string) (added bool, err error) {
	return change(path, func(keys *keyset.Handle, manager *keyset.Manager) (bool, error) {
		if keys.Len() > 1 {
			return false, nil
		}
		_, err := manager.Add(aead.AES256GCMKeyTemplate())
		return true, err
	})
}

// UseNewestKey makes the key that was added last the one to seal with.
func UseNewestKey(path string) (changed bool, err error) {
	return change(path, func(keys *keyset.Handle, manager *keyset.Manager) (bool, error) {
		newest, err := keys.Entry(keys.Len() - 1)
		if err != nil || newest.IsPrimary() {
			return false, err
		}
		return true, manager.SetPrimary(newest.KeyID())
	})
}

// ErrNotInUse refuses to drop the key that is sealed with while there is a newer one.
var ErrNotInUse = errors.New("the new key is not sealed with yet: run the step use first")

// DropOtherKeys removes every key but the newest, which must be the one that is sealed with. What is still sealed with
// another opens no more.
func DropOtherKeys(path string) (changed bool, err error) {
	return change(path, func(keys *keyset.Handle, manager *keyset.Manager) (bool, error) {
		if newest, err := keys.Entry(keys.Len() - 1); err != nil || !newest.IsPrimary() {
			return false, errors.Join(err, ErrNotInUse)
		}
		for n := range keys.Len() {
			key, err := keys.Entry(n)
			if err != nil {
				return false, err
			}
			if key.IsPrimary() {
				continue
			}
			if err := manager.Delete(key.KeyID()); err != nil {
				return false, err
			}
			changed = true
		}
		return changed, nil
	})
}
