package up

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/node/process"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/postgres/embedded"
	"github.com/engineshed/engineshed/internal/secret"
)

// dataDir is the folder of an installation, locked by this process.
type dataDir struct {
	path string
	lock *os.File
}

func (d dataDir) file(names ...string) string {
	return filepath.Join(append([]string{d.path}, names...)...)
}

// openDataDir makes the folder unless it is there, and locks it.
func openDataDir(path string, ownPostgres bool) (dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return dataDir{}, err
	}
	d := dataDir{path: path}
	if err := CheckDataDir(path, ownPostgres); err != nil {
		return d, err
	}
	for _, dir := range []string{"", "logs", "worker", "gateway"} {
		if err := makeDir(d.file(dir), dir == "" || dir == "worker"); err != nil {
			return d, fmt.Errorf("make the data directory: %w", err)
		}
	}
	d.lock, err = lockDir(d.file("lock"))
	return d, err
}

// CheckDataDir says why Postgres or the engines, which never run as root, could not reach files below path.
func CheckDataDir(path string, ownPostgres bool) error {
	if ownPostgres {
		user, err := embedded.Unprivileged()
		if err != nil {
			return err
		}
		if err := user.CanEnter(path); err != nil {
			return fmt.Errorf("the data directory %s: Postgres does not run as root: %w", path, err)
		}
	}
	if err := process.CheckDir(filepath.Join(path, "worker"), ""); err != nil {
		return fmt.Errorf("the data directory %s: engines do not run as root: %w", path, err)
	}
	return nil
}

// makeDir makes a folder that root's unprivileged children can pass through when passable.
func makeDir(path string, passable bool) error {
	mode := fs.FileMode(0o700)
	if passable && os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(path, mode); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // whoever made it chose its mode
		}
		return err
	}
	return os.Chmod(path, mode) // whatever the umask says
}

// lockDir takes the lock file, or says who holds it.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		f.Close()
		return nil, fmt.Errorf("%s is in use by another engineshed (%s): stop that one, or give another --data-dir",
			filepath.Dir(path), strings.TrimSpace(string(holder)))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "process %d, since %s\n", os.Getpid(), time.Now().Format(time.DateTime))
	}
	return f, err
}

// state is what the first start chose and later ones keep.
type state struct {
	Host            string `json:"host"` // AI nodes belong to it, so it outlives a new host name
	OwnerPassword   string `json:"ownerPassword"`
	ControlPassword string `json:"controlPassword"`
	GatewayPassword string `json:"gatewayPassword"`
}

func newState() state {
	hostname, _ := os.Hostname()
	return state{jobs.HostName(hostname), rand.Text(), rand.Text(), rand.Text()}
}

func (s state) passwords() postgres.RolePasswords {
	return postgres.RolePasswords{
		Owner: secret.New(s.OwnerPassword), Control: secret.New(s.ControlPassword), Gateway: secret.New(s.GatewayPassword),
	}
}

// rootKey is the first account and the access key of its root, in the form that controlplane reads.
type rootKey struct {
	AccountID       string `json:"accountId"`
	AccessKeyID     string `json:"accessKeyId"`
	AccessKeySecret string `json:"accessKeySecret"`
}

func newRootKey() rootKey {
	key := iam.NewAccessKey()
	return rootKey{AccountID: iam.NewAccountID(), AccessKeyID: key.ID, AccessKeySecret: key.Secret.Reveal()}
}

// rootKey reads the key of the first start, or makes it. A key that the caller gives takes its place. made says that the
// secret was made up now, so nobody knows it yet.
func (d dataDir) rootKey(c Config) (key rootKey, made bool, err error) {
	if (c.AccessKeyID == "") != c.AccessKeySecret.IsZero() {
		return rootKey{}, false, errors.New("ENGINESHED_ACCESS_KEY_ID and ENGINESHED_ACCESS_KEY_SECRET belong together: set both or none")
	}
	path := d.file("root-key.json")
	key, made, err = readOrMake(path, newRootKey)
	if err != nil || c.AccessKeyID == "" {
		return key, made, err
	}
	key.AccessKeyID, key.AccessKeySecret = c.AccessKeyID, c.AccessKeySecret.Reveal()
	return key, false, writeJSON(path, key)
}

// makeKeys makes the key files unless they are there.
func (d dataDir) makeKeys() error {
	return errors.Join(secret.CreateKeyFile(d.file("master.key")), secret.CreateKeyFile(d.file("snapshot.key")))
}

// readOrMake reads a JSON file, or writes what fresh returns.
func readOrMake[T any](path string, fresh func() T) (value T, made bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		value = fresh()
		return value, true, writeJSON(path, value)
	}
	if err != nil {
		return value, false, err
	}
	if err := json.Unmarshal(text, &value); err != nil {
		return value, false, fmt.Errorf("read %s: %w", path, err)
	}
	return value, false, nil
}

// writeJSON replaces a file that only its owner may read.
func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(text, '\n'))
}

// writeFile replaces a file that only its owner may read: completely or not at all.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // CreateTemp's mode is 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
