package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Box seals secrets under a keyset (AES-256-GCM). What is sealed for one purpose does not open for another.
type Box struct{ aead tink.AEAD }

// Seal encrypts text. purpose names the row and column it is meant for, such as "access_key/AK…/secret".
func (b *Box) Seal(purpose string, s Secret) ([]byte, error) {
	return b.aead.Encrypt([]byte(s.text), []byte(purpose))
}

// Open decrypts what Seal returned for the same purpose.
func (b *Box) Open(purpose string, sealed []byte) (Secret, error) {
	text, err := b.aead.Decrypt(sealed, []byte(purpose))
	if err != nil {
		return Secret{}, fmt.Errorf("open the secret %s: it was not sealed under this key file for this purpose", purpose)
	}
	return New(string(text)), nil
}

// Load reads a key file that CreateKeyFile wrote. A file that others may read is refused.
func Load(path string) (*Box, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %#o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(f))
	if err != nil {
		return nil, fmt.Errorf("%s is not a key file: %w", path, err)
	}
	return box(handle)
}

// NewBox returns a Box under a fresh key that is kept nowhere, for tests.
func NewBox() (*Box, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	return box(handle)
}

func box(handle *keyset.Handle) (*Box, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	return &Box{primitive}, nil
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
	return os.Rename(f.Name(), path)
}
