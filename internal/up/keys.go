package up

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/secret"
)

// MakeKeys makes the files that an installation keeps secret and that Start makes by itself, for installations whose
// programs are started one by one. There is a folder for each reader, so that a host is given no more than it needs:
// DIR/database for Postgres and the migrations, DIR/control for control planes and workers, DIR/gateway for gateways.
// What is there is kept, and refused where it contradicts the rest. made are the files that were missing.
func MakeKeys(dir string) (made []string, err error) {
	k := keyFiles{dir: dir}
	for _, folder := range []string{"database", "control", "gateway"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	err = errors.Join(
		k.make("control/master.key", secret.CreateKeyFile),
		k.make("control/snapshot.key", secret.CreateKeyFile),
		k.make("control/root.json", func(path string) error { return writeJSON(path, newRootKey()) }),
		k.copy("gateway/snapshot.key", "control/snapshot.key", ""),
	)
	for _, role := range []struct{ name, password, copy string }{
		{"*", "database/admin.password", "database/pgpass"},
		{postgres.OwnerRole, "database/owner.password", ""},
		{postgres.ControlRole, "database/control.password", "control/pgpass"},
		{postgres.GatewayRole, "database/gateway.password", "gateway/pgpass"},
	} {
		err = errors.Join(err, k.make(role.password, makePassword))
		if role.copy != "" {
			err = errors.Join(err, k.copy(role.copy, role.password, "*:*:*:"+role.name+":"))
		}
	}
	return k.made, err
}

type keyFiles struct {
	dir  string
	made []string
}

// make has the file written unless it is there.
func (k *keyFiles) make(name string, write func(path string) error) error {
	path := filepath.Join(k.dir, name)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	k.made = append(k.made, name)
	return write(path)
}

// copy makes the file hold what source holds, after prefix.
func (k *keyFiles) copy(name, source, prefix string) error {
	content, err := os.ReadFile(filepath.Join(k.dir, source))
	if err != nil {
		return err
	}
	content = append([]byte(prefix), content...)
	path := filepath.Join(k.dir, name)
	switch there, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
		k.made = append(k.made, name)
		return writeFile(path, content)
	case err != nil:
		return err
	case !bytes.Equal(there, content):
		return fmt.Errorf("%s does not go with %s: remove the one that is not in use, and run this again", path, filepath.Join(k.dir, source))
	}
	return nil
}

func makePassword(path string) error { return writeFile(path, []byte(rand.Text()+"\n")) }
