package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// account is whom engines run as.
type account struct {
	name       string
	uid, gid   int
	groups     []int
	credential *syscall.Credential // nil: engines run as the worker's own user, who is not root
}

// findAccount returns the account of the named user; "" means the worker's own user, or for root the first of
// engineshed and nobody that exists. Engines never run as root.
func findAccount(name string) (account, error) {
	root := os.Geteuid() == 0
	switch {
	case name == "" && !root:
		name = strconv.Itoa(os.Geteuid())
	case name == "":
		name = "nobody"
		if _, err := user.Lookup("engineshed"); err == nil {
			name = "engineshed"
		}
	}
	found, err := user.Lookup(name)
	if err != nil {
		found, err = user.LookupId(name)
	}
	if err != nil && !root && name == strconv.Itoa(os.Geteuid()) { // a container's user need not have a name
		return account{name: name, uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	if err != nil {
		return account{}, fmt.Errorf("the engines' user %s does not exist: create it, or name another one", name)
	}
	return newAccount(found, root)
}

func newAccount(found *user.User, root bool) (account, error) {
	a := account{name: found.Username}
	var errs [3]error
	var groups []string
	a.uid, errs[0] = strconv.Atoi(found.Uid)
	a.gid, errs[1] = strconv.Atoi(found.Gid)
	groups, errs[2] = found.GroupIds()
	if err := errors.Join(errs[:]...); err != nil {
		return account{}, fmt.Errorf("the engines' user %s: %w", a.name, err)
	}
	if a.uid == 0 {
		return account{}, errors.New("engines do not run as root: name another user")
	}
	if !root && a.uid != os.Geteuid() {
		return account{}, fmt.Errorf("only root can run engines as %s: start the worker as root or as that user", a.name)
	}
	var supplementary []uint32
	for _, group := range groups {
		if id, err := strconv.Atoi(group); err == nil {
			a.groups = append(a.groups, id)
			supplementary = append(supplementary, uint32(id))
		}
	}
	if root {
		a.credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: supplementary}
	}
	return a, nil
}

// CheckDir reports why engines could not have their directories in dir, which need not exist yet: their user must be
// able to enter every directory above. user is as in Config.
func CheckDir(dir, user string) error {
	a, err := findAccount(user)
	if err != nil {
		return err
	}
	return a.mayEnter(dir)
}

// CheckCommand reports why engines could not be started with command: it is not there, or their user may not run it.
// user is as in Config.
func CheckCommand(command []string, user string) error {
	a, err := findAccount(user)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return errors.New("no engine command")
	}
	return a.mayRun(command[0])
}

func (a account) mayRun(program string) error {
	path, err := lookPath(program)
	if err != nil {
		return err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	if err := a.mayEnter(filepath.Dir(path)); err != nil {
		return fmt.Errorf("the engine's command %s: %w", path, err)
	}
	return a.mayExecute(path, "run")
}

// mayEnter checks dir, or the part of it that can be seen, and everything above it.
func (a account) mayEnter(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		resolved, err := filepath.EvalSymlinks(dir)
		if err == nil {
			dir = resolved
			break
		}
		if dir == "/" || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	for ; ; dir = filepath.Dir(dir) {
		if err := a.mayExecute(dir, "enter"); err != nil || dir == "/" {
			return err
		}
	}
}

// mayExecute looks at the permission bits: who may enter a directory or run a file.
func (a account) mayExecute(path, verb string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	bits := info.Mode().Perm()
	switch {
	case !ok:
	case int(owner.Uid) == a.uid:
		bits >>= 6
	case int(owner.Gid) == a.gid, slices.Contains(a.groups, int(owner.Gid)):
		bits >>= 3
	}
	if bits&1 == 0 {
		return fmt.Errorf("the user %s, whom engines run as, may not %s %s (%s): choose another place, or chmod a+x %s",
			a.name, verb, path, info.Mode(), path)
	}
	return nil
}
