package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/engineshed/engineshed/internal/postgres/embedded"
)

// template is the migrated database in every server's data folder: what New clones, and the one database of a Server.
const template = "engineshed"

// node is a running server on a copy of the cached data folder.
type node struct {
	config   embedded.Config
	embedded *embedded.Server
	admin    *pgxpool.Pool // to clone and drop with; nil on a private server
}

// startNode copies the cached data folder into dir and starts a server on it.
func startNode(ctx context.Context, dir string, settings ...string) (*node, error) {
	binaries, err := embedded.Find(ctx)
	if err != nil {
		return nil, err
	}
	cached, err := cachedData(ctx, binaries)
	if err != nil {
		return nil, err
	}
	n := &node{config: config(dir, binaries, settings...)}
	if err := copyData(cached, n.config.DataDir); err != nil {
		return nil, err
	}
	if n.embedded, err = embedded.Start(ctx, n.config); err != nil {
		return nil, err
	}
	return n, n.refreshTemplate(ctx)
}

func config(dir, binaries string, settings ...string) embedded.Config {
	return embedded.Config{
		DataDir: filepath.Join(dir, "data"), SocketDir: filepath.Join(dir, "run"), Binaries: binaries,
		Log: filepath.Join(dir, "postgres.log"), Disposable: true,
		Settings: append([]string{"max_connections=300", "shared_buffers=64MB"}, settings...),
	}
}

// refreshTemplate makes the partitions of today: those in the cache are of the day it was made.
func (n *node) refreshTemplate(ctx context.Context) error {
	conn, err := connect(ctx, n.url(template))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `SELECT maintain_nonce_partitions(), maintain_usage_partitions('30 days'),
		maintain_audit_partitions('400 days')`)
	return errors.Join(err, conn.Close(ctx))
}

func (n *node) url(database string) string { return n.embedded.URL(database) }

// clone copies the template. What a role may do with the database itself is not copied, so it is said again.
func (n *node) clone(ctx context.Context, name string) error {
	quoted := pgx.Identifier{name}.Sanitize()
	_, err := n.admin.Exec(ctx, fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s STRATEGY file_copy`, quoted, template))
	if err == nil {
		_, err = n.admin.Exec(ctx, fmt.Sprintf(`REVOKE TEMPORARY ON DATABASE %s FROM PUBLIC`, quoted))
	}
	return err
}

func (n *node) drop(ctx context.Context, name string) error {
	_, err := n.admin.Exec(ctx, fmt.Sprintf(`DROP DATABASE %s WITH (FORCE)`, pgx.Identifier{name}.Sanitize()))
	return err
}

// startShared starts the test binary's own server. It ends with the test binary; a small shell that outlives both
// removes its folder, as no test knows that it is the last one.
func startShared() (*node, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := tempDir()
	if err != nil {
		return nil, err
	}
	n, err := startNode(ctx, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if n.admin, err = pgxpool.New(ctx, n.url("postgres")); err != nil {
		return nil, err
	}
	return n, removeAfter(n.embedded.PID(), dir)
}

// memory is where Linux keeps files in memory. Cloning a database there takes 15 ms; on a disk, even with fsync off, up
// to half a second, as hundreds of files are made and removed.
const memory = "/dev/shm"

// enoughMemory is the room in it that the databases of a few test binaries need. Containers often have 64 MiB.
const enoughMemory = 2 << 30

// tempDir is a folder that the server's user can enter, which t.TempDir is not when the test runs as root.
func tempDir() (string, error) {
	base := ""
	var free syscall.Statfs_t
	if err := syscall.Statfs(memory, &free); err == nil && int64(free.Bavail)*free.Bsize > enoughMemory {
		base = memory
	}
	dir, err := os.MkdirTemp(base, "pgtest-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// removeAfter removes dir when this process and the one with the given pid are gone. The shell learns of the first from
// a pipe, whose other end this process never closes: a bare descriptor, which no finalizer closes either.
func removeAfter(pid int, dir string) error {
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	read := os.NewFile(uintptr(pipe[0]), "pipe")
	defer read.Close()
	cmd := exec.Command("/bin/sh", "-c", `cat >/dev/null; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2"`,
		"sh", strconv.Itoa(pid), dir)
	cmd.Stdin = read
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd.Start()
}

// Server is a Postgres that only this test uses, for tests in which it goes away and comes back.
type Server struct {
	*DB
	t    testing.TB
	node *node
	dir  string
}

// NewServer starts a private server with one migrated database. settings are Postgres settings such as "fsync=on".
// The URLs stay the same over restarts. The server is stopped and removed when the test ends.
func NewServer(t testing.TB, settings ...string) *Server {
	t.Helper()
	dir, err := tempDir()
	if err != nil {
		t.Fatalf("make a folder for Postgres: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return newServer(t, dir, settings...)
}

// NewServerOn is NewServer on a file system in memory of so many bytes, which Fill fills up. It is mounted for the test, so
// the test must run as root.
func NewServerOn(t testing.TB, size int64, settings ...string) *Server {
	t.Helper()
	dir, err := tempDir()
	if err != nil {
		t.Fatalf("make a folder for Postgres: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=711", size)); err != nil {
		t.Fatalf("mount a small file system for Postgres: %v: run this test as root, with the right to mount", err)
	}
	t.Cleanup(func() {
		err := syscall.Unmount(dir, syscall.MNT_DETACH)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Errorf("unmount the small file system: %v", err)
		}
	})
	return newServer(t, dir, settings...)
}

func newServer(t testing.TB, dir string, settings ...string) *Server {
	t.Helper()
	n, err := startNode(t.Context(), dir, settings...)
	if err != nil {
		t.Fatalf("this test needs a Postgres: %v", err)
	}
	s := &Server{t: t, node: n, dir: dir}
	t.Cleanup(s.Kill)
	s.DB = open(t, n.url(template))
	return s
}

// Kill stops the server at once (pg_ctl stop -m immediate): the next Start recovers from the log.
func (s *Server) Kill() { s.node.embedded.Kill() }

// Stop stops the server in order: connections are cut, the data are written.
func (s *Server) Stop() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.node.embedded.Stop(ctx); err != nil {
		s.t.Fatalf("stop Postgres: %v", err)
	}
}

// Start starts the server again after Kill or Stop.
func (s *Server) Start() {
	s.t.Helper()
	server, err := embedded.Start(context.Background(), s.node.config)
	if err != nil {
		s.t.Fatalf("start Postgres again: %v", err)
	}
	s.node.embedded = server
}

// Fill takes the room that is left on the file system of NewServerOn, to the last block. Free gives it back.
func (s *Server) Fill() {
	s.t.Helper()
	f, err := os.OpenFile(s.filling(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatalf("fill the disk: %v", err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			s.t.Fatalf("fill the disk: %v", err)
		}
	}
}

// Free gives back what Fill took.
func (s *Server) Free() {
	s.t.Helper()
	if err := os.Remove(s.filling()); err != nil {
		s.t.Fatalf("free the disk: %v", err)
	}
}

func (s *Server) filling() string { return filepath.Join(s.dir, "filling") }

// Files is the folder of the database's files.
func (s *Server) Files() string { return s.node.config.DataDir }
