// Package node is the contract between the control plane and whatever runs engines on a host.
package node

import (
	"context"
	"time"

	"github.com/engineshed/engineshed/internal/secret"
)

// Spec is everything a driver needs to run one replica's engine.
type Spec struct {
	ReplicaID  string
	Generation int64             // goes into the engine's environment marker
	Addr       string            // host:port the engine listens on; the host part is loopback or the host's private address
	Args       []string          // the engine's arguments after the command, e.g. serve MODEL --port=…
	Env        map[string]string // added to the driver's clean environment
	Key        secret.Secret     // the engine's own API key; reaches the engine by environment, never by argv
}

// State is what a driver sees of a replica's engine.
type State string

// The states a driver can observe.
const (
	Absent   State = "absent"   // no process, and none was seen to end since Ensure
	Starting State = "starting" // the process runs, /health does not answer 200 yet
	Healthy  State = "healthy"  // the process runs and has answered /health with 200
	Exited   State = "exited"   // the process that Ensure started has ended
)

// Observation is one look at a replica's engine.
type Observation struct {
	State      State
	Generation int64     // the generation in the running (or ended) engine's marker
	PID        int       // 0 unless a process runs
	StartedAt  time.Time // zero unless a process runs or has run
	Reason     string    // Exited: how it ended and the last line of its log, for a person
	Log        string    // Exited: the last lines of its log
}

// Log is the end of what a replica's engine has printed.
type Log struct {
	Generation int64  // of the engine that prints it; 0 when there is none
	Offset     int64  // where Text ends: how many bytes the log has. It is smaller than before when the log was cut
	Text       string // the end of it, printable
	Previous   string // the end of the log of the engine before, or of what was cut off
}

// Found is an engine of this installation that runs on this host, or what one has left there.
type Found struct {
	ReplicaID  string
	Generation int64
	PID        int // 0: it has ended, and its files are left
}

// Driver runs engines on one host. Every method is idempotent and may be called by two workers at once;
// nodetest is the contract as a suite.
type Driver interface {
	// Ensure starts the engine of spec unless one of this replica runs already, whatever its generation.
	// It returns without waiting for the engine to become healthy. At most one engine per replica runs,
	// also when two workers call Ensure at the same moment or one of them was killed inside it.
	Ensure(ctx context.Context, spec Spec) error

	// Observe looks at the replica's engine, also one that another process of this host started. addr is
	// where it was told to listen.
	Observe(ctx context.Context, replicaID, addr string) (Observation, error)

	// Log returns the end of the replica's logs, at most limit bytes of each. A replica without one has an empty one.
	Log(ctx context.Context, replicaID string, limit int) (Log, error)

	// Remove takes one step towards no engine: it asks the engine to end, or kills it when it was asked
	// longer than the driver's grace period ago. done is true when neither process nor file of the replica
	// is left; call again until then. Removing what does not exist is done.
	Remove(ctx context.Context, replicaID string) (done bool, err error)

	// List returns every engine of this installation that runs on this host, with or without a row, and every replica of
	// which files are left.
	List(ctx context.Context) ([]Found, error)
}
