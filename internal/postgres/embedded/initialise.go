package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/engineshed/engineshed/internal/secret"
)

// initialise makes the data folder at the first start and checks that it is of our version afterwards. It returns the
// superuser's password.
func (s *Server) initialise(ctx context.Context, owner User) (secret.Secret, error) {
	password, err := s.superuserPassword()
	if err != nil {
		return secret.Secret{}, err
	}
	found, err := os.ReadFile(filepath.Join(s.config.DataDir, "PG_VERSION"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return password, s.initdb(owner, password)
	case err != nil:
		return secret.Secret{}, err
	}
	return password, s.checkVersion(ctx, owner, strings.TrimSpace(string(found)))
}

// superuserPassword is written before the data folder is made, so that a crash between the two loses nothing.
func (s *Server) superuserPassword() (secret.Secret, error) {
	path := s.config.DataDir + ".password"
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(rand.Text())
		err = writeSynced(path, text)
	}
	if err != nil {
		return secret.Secret{}, fmt.Errorf("keep the database password: %w", err)
	}
	return secret.New(string(text)), nil
}

// initdb works in a folder beside the final one and renames it, so that a data folder is complete or not there.
func (s *Server) initdb(owner User, password secret.Secret) error {
	fresh := s.config.DataDir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	defer os.RemoveAll(fresh)
	passwordFile := filepath.Join(s.config.SocketDir, "password")
	defer os.Remove(passwordFile)
	if err := errors.Join(owner.Own(fresh), writeSynced(passwordFile, []byte(password.Reveal())), owner.Own(passwordFile)); err != nil {
		return err
	}
	if err := s.runInitdb(owner, fresh, passwordFile); err != nil {
		return err
	}
	return os.Rename(fresh, s.config.DataDir)
}

func (s *Server) runInitdb(owner User, dir, passwordFile string) error {
	arguments := []string{
		"-D", dir, "-U", Superuser, "--pwfile", passwordFile,
		"--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=scram-sha-256",
	}
	if s.config.Disposable {
		arguments = append(arguments, "--auth=trust", "--no-sync", "--wal-segsize=1")
	}
	cmd := owner.command(filepath.Join(s.config.Binaries, "initdb"), arguments...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb (%w):\n%s", err, out)
	}
	return nil
}

// checkVersion refuses a data folder of another major version: its files mean something else.
func (s *Server) checkVersion(ctx context.Context, owner User, found string) error {
	major, err := MajorVersion(ctx, s.config.Binaries)
	if err != nil || major == found {
		return err
	}
	as, install := "", "install -d -m 700"
	if owner.drop {
		as, install = "runuser -u "+owner.Name+" -- ", install+" -o "+owner.Name
	}
	return fmt.Errorf(`the data in %[1]s were written by Postgres %[2]s, and the Postgres that was found is %[3]s, in %[4]s
Either install Postgres %[2]s and put the folder of its programs first on the PATH:
    PATH=/usr/lib/postgresql/%[2]s/bin:$PATH engineshed up
or install both versions with pg_upgrade and move the data, with engineshed stopped (adapt the two folders of programs):
    mv %[1]s %[1]s.old
    %[5]s %[1]s
    cd %[6]s && export PGPASSWORD="$(cat %[1]s.password)"
    %[7]s%[4]s/initdb -D %[1]s -U %[8]s --encoding=UTF8 --locale=C --data-checksums --auth=trust
    %[7]s%[4]s/pg_upgrade -U %[8]s -b /usr/lib/postgresql/%[2]s/bin -B %[4]s -d %[1]s.old -D %[1]s -s %[6]s
    cp -p %[1]s.old/pg_hba.conf %[1]s/`,
		s.config.DataDir, found, major, s.config.Binaries, install, s.config.SocketDir, as, Superuser)
}

// MajorVersion is the major version of the Postgres in the folder binaries, such as "17".
func MajorVersion(ctx context.Context, binaries string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(binaries, "postgres"), "--version").Output()
	text := string(out)
	if err != nil {
		return "", fmt.Errorf("ask %s/postgres for its version: %w", binaries, err)
	}
	fields := strings.Fields(text) // postgres (PostgreSQL) 15.18 (Debian …)
	if len(fields) < 3 {
		return "", fmt.Errorf("%s/postgres names no version: %q", binaries, text)
	}
	major, _, _ := strings.Cut(fields[2], ".")
	return major, nil
}

// writeSynced writes a file that only its owner may read, and has it on the disk when it returns.
func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// tail is the end of a file, for an error message.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
