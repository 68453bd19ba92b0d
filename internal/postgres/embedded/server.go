// Package embedded runs a Postgres of our own on a private socket, for users who do not bring one.
package embedded

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/child"
	"github.com/engineshed/engineshed/internal/secret"
)

// Superuser is the role that Start's URLs connect as.
const Superuser = "postgres"

// Config says what to run and where.
type Config struct {
	// DataDir is made at the first start. Beside it lies DataDir.password, the superuser's password.
	DataDir string
	// SocketDir holds the one socket; empty: beside DataDir, or in the temporary directory where that path is too long.
	SocketDir string
	// Binaries is the folder of postgres and initdb, as Find returns it.
	Binaries string
	// Log is the file that Postgres's own messages are appended to.
	Log string
	// Settings are further settings, such as max_connections=300.
	Settings []string
	// Disposable: the data are not worth waiting for the disk, and nobody else can reach the socket. For tests.
	Disposable bool
}

// Server is a running Postgres.
type Server struct {
	config   Config
	password secret.Secret
	process  *child.Process
}

const (
	readyTimeout = 30 * time.Second // recovery after a crash included
	pollInterval = 10 * time.Millisecond
)

// Start starts Postgres on config.DataDir, which it makes when it is not there, and returns when it answers. The server
// ends with this process, also when this process is killed; what a killed one left running is stopped first.
// As root it runs as the unprivileged user that Unprivileged names.
func Start(ctx context.Context, config Config) (*Server, error) {
	owner, err := Unprivileged()
	if err != nil {
		return nil, err
	}
	if config.DataDir, err = filepath.Abs(config.DataDir); err != nil {
		return nil, err
	}
	if err := owner.CanEnter(filepath.Dir(config.DataDir)); err != nil {
		return nil, err
	}
	if config.SocketDir, err = socketDir(config, owner); err != nil {
		return nil, err
	}
	s := &Server{config: config}
	if s.password, err = s.initialise(ctx, owner); err != nil {
		return nil, err
	}
	if err := stopLeftovers(ctx, config.DataDir); err != nil {
		return nil, err
	}
	if err := s.launch(owner); err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx); err != nil {
		s.process.Signal(syscall.SIGQUIT)
		<-s.process.Done()
		return nil, err
	}
	return s, nil
}

func (s *Server) launch(owner User) error {
	log, err := os.OpenFile(s.config.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open Postgres's log: %w", err)
	}
	defer log.Close()
	cmd := owner.command(filepath.Join(s.config.Binaries, "postgres"), s.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = s.config.DataDir
	if s.process, err = child.Start(cmd, syscall.SIGINT); err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	return nil
}

func (s *Server) arguments() []string {
	arguments := []string{
		"-D", s.config.DataDir, "-k", s.config.SocketDir,
		"-c", "listen_addresses=", "-c", "unix_socket_permissions=0700", "-c", "cluster_name=engineshed",
	}
	if s.config.Disposable {
		arguments = append(arguments, "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off",
			"-c", "wal_level=minimal", "-c", "max_wal_senders=0")
	}
	for _, setting := range s.config.Settings {
		arguments = append(arguments, "-c", setting)
	}
	return arguments
}

// awaitReady waits until the server answers, and gives up at once when it has ended.
func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.Done():
			return fmt.Errorf("our Postgres ended while it started (%w); its last messages:\n%s", s.process.Err(), tail(s.config.Log))
		case <-ctx.Done():
			return fmt.Errorf("our Postgres does not answer: %w; its last messages:\n%s", err, tail(s.config.Log))
		case <-time.After(pollInterval):
		}
	}
}

func (s *Server) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// URL is the superuser's connection URL for the named database.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(Superuser, s.password.Reveal()), Path: "/" + database,
		RawQuery: url.Values{"host": {s.config.SocketDir}}.Encode(),
	}
	return u.String()
}

// EnsureDatabase makes the named database unless it exists.
func (s *Server) EnsureDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize())
	return err
}

// PID is the process id of the server.
func (s *Server) PID() int { return s.process.PID() }

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Signal sends a signal to the server.
func (s *Server) Signal(signal syscall.Signal) { s.process.Signal(signal) }

// Stop ends the server in order: connections are cut, the data are written. When ctx ends first it is stopped as by
// Kill, and the next start recovers.
func (s *Server) Stop(ctx context.Context) error {
	s.process.Signal(syscall.SIGINT)
	select {
	case <-s.process.Done():
		return s.process.Err()
	case <-ctx.Done():
		s.Kill()
		return fmt.Errorf("our Postgres did not stop in time and was stopped at once; the next start recovers: %w", ctx.Err())
	}
}

// Kill ends the server at once, as pg_ctl stop -m immediate does, and returns when it is gone.
func (s *Server) Kill() {
	s.process.Signal(syscall.SIGQUIT)
	select {
	case <-s.process.Done():
	case <-time.After(6 * time.Second): // Postgres itself gives its children five
		s.process.Signal(syscall.SIGKILL)
		<-s.process.Done()
	}
}
