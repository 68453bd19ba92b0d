package secret

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Box seals secrets under a keyset (AES-256-GCM). What is sealed for one purpose does not open for another. A Box of a key
// file follows the file: a key that was added is known when it is first met, and sealed with a second after it was made the
// one to use. It is safe for concurrent use.
type Box struct {
	path   string // "": the keys stay as they are
	ring   atomic.Pointer[ring]
	looked atomic.Int64 // when the file was looked at last, in nanoseconds
}

// ring is a keyset as it was read.
type ring struct {
	aead    tink.AEAD
	primary uint32
	file    fs.FileInfo // nil: it comes from no file
}

// lookAgain is how old the keys may be that are sealed with.
const lookAgain = time.Second

// Seal encrypts text. purpose names the row and column it is meant for, such as "access_key/AK…/secret".
func (b *Box) Seal(purpose string, s Secret) ([]byte, error) {
	b.refresh(lookAgain)
	return b.ring.Load().aead.Encrypt([]byte(s.text), []byte(purpose))
}

// Open decrypts what Seal returned for the same purpose.
func (b *Box) Open(purpose string, sealed []byte) (Secret, error) {
	text, err := b.ring.Load().aead.Decrypt(sealed, []byte(purpose))
	if err != nil && b.refresh(0) { // it may be sealed with a key that was added since
		text, err = b.ring.Load().aead.Decrypt(sealed, []byte(purpose))
	}
	if err != nil {
		return Secret{}, fmt.Errorf("open the secret %s: it was not sealed under this key file for this purpose", purpose)
	}
	return New(string(text)), nil
}

// Prefix is what everything begins with that is sealed with the key in use now.
func (b *Box) Prefix() []byte {
	b.refresh(lookAgain)
	return binary.BigEndian.AppendUint32([]byte{1}, b.ring.Load().primary) // tink's own: a version and the key's id
}

// refresh reads the key file again if it has changed, unless it was looked at within age. It reports whether there are
// other keys now. A file that cannot be read leaves the keys as they are.
func (b *Box) refresh(age time.Duration) bool {
	now, looked := time.Now().UnixNano(), b.looked.Load()
	if b.path == "" || now-looked < int64(age) || !b.looked.CompareAndSwap(looked, now) {
		return false
	}
	old := b.ring.Load()
	info, err := os.Stat(b.path)
	if err != nil || os.SameFile(info, old.file) && info.ModTime().Equal(old.file.ModTime()) && info.Size() == old.file.Size() {
		return false
	}
	fresh, err := readRing(b.path)
	if err != nil {
		return false
	}
	b.ring.Store(fresh)
	return true
}

// Load reads a key file that CreateKeyFile wrote. A file that others may read is refused.
func Load(path string) (*Box, error) {
	found, err := readRing(path)
	if err != nil {
		return nil, err
	}
	b := &Box{path: path}
	b.ring.Store(found)
	return b, nil
}

func readRing(path string) (*ring, error) {
	handle, info, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	found, err := newRing(handle)
	if err != nil {
		return nil, err
	}
	found.file = info
	return found, nil
}

func newRing(handle *keyset.Handle) (*ring, error) {
	primary, err := handle.Primary()
	if err != nil {
		return nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	return &ring{aead: primitive, primary: primary.KeyID()}, nil
}

// NewBox returns a Box under a fresh key that is kept nowhere, for tests.
func NewBox() (*Box, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	found, err := newRing(handle)
	if err != nil {
		return nil, err
	}
	b := &Box{}
	b.ring.Store(found)
	return b, nil
}
