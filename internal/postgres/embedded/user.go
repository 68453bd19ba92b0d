package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// User is whom Postgres runs as.
type User struct {
	Name     string
	UID, GID uint32
	drop     bool // we are root and become this user
}

// Unprivileged is the user that Postgres runs as: this process's own, or, as Postgres refuses to run as root, postgres
// or nobody when this process is root.
func Unprivileged() (User, error) {
	if os.Geteuid() != 0 {
		return User{Name: "this user", UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(found.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(found.Gid, 10, 32)
		if errors.Join(err1, err2) == nil && uid != 0 {
			return User{Name: name, UID: uint32(uid), GID: uint32(gid), drop: true}, nil
		}
	}
	return User{}, errors.New("root cannot run Postgres, and there is neither a user postgres nor nobody to run it: make one, or run engineshed as an ordinary user")
}

// command prepares a program to run as the user, with a clean environment.
func (u User) command(name string, arguments ...string) *exec.Cmd {
	cmd := exec.Command(name, arguments...)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	if u.drop {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID}}
	}
	return cmd
}

// Own gives path to the user.
func (u User) Own(path string) error {
	if !u.drop {
		return nil
	}
	return os.Lchown(path, int(u.UID), int(u.GID))
}

// CanEnter says why the user cannot reach files in dir, or nil. Folders that do not exist yet are passed over.
func (u User) CanEnter(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is not a folder", dir)
		case !u.mayEnter(info):
			return fmt.Errorf("the user %s cannot enter %s (mode %#o): choose another folder, or run chmod o+x %s", u.Name, dir, info.Mode().Perm(), dir)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

func (u User) mayEnter(info fs.FileInfo) bool {
	stat := info.Sys().(*syscall.Stat_t)
	switch {
	case stat.Uid == u.UID:
		return info.Mode()&0o100 != 0
	case stat.Gid == u.GID:
		return info.Mode()&0o010 != 0
	default:
		return info.Mode()&0o001 != 0
	}
}
