package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// What a call asks of the database does not depend on the machine, so it is what a change is held to.
func TestTheDatabaseIsAskedNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	const calls = 10
	s := newShed(t, pgtest.New(t))
	w := watch(t, s.db.ControlURL)
	s.db.ControlURL = w.url
	c := newGenerated(t, s.controlPlane("api").addr, rootKey)
	_, err := s.db.Owner.Exec(t.Context(), `
		INSERT INTO host (name, engine_addr, started_at, heartbeat_at) VALUES ('host-a', '127.0.0.1', now(), now())`)
	require.NoError(t, err)
	instance, nodes := newInstance(t, c, calls+1)
	made, err := c.call("CreateModelService", createParams(instance, nodes[calls]))
	require.NoError(t, err)
	service := made.text("ModelServiceId")
	for name, test := range map[string]struct {
		call func(i int) error
		want traffic
	}{
		// One transaction for the nonce, which also reads the key; one for the token, the nodes, the service, its replica
		// and job and the audit row.
		"CreateModelService": {want: traffic{statements: 11, trips: 6, transactions: 2}, call: func(i int) error {
			params := createParams(instance, nodes[i])
			params["ClientToken"] = nodes[i]
			_, err := c.call("CreateModelService", params)
			return err
		}},
		"DescribeModelService": {want: traffic{statements: 3, trips: 2, transactions: 2}, call: func(int) error {
			_, err := c.call("DescribeModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": service})
			return err
		}},
	} {
		var least traffic
		for i := range calls { // the first finds the caches empty, and another may meet the housekeeping
			before := w.seen()
			require.NoError(t, test.call(i))
			if now := w.seen().minus(before); i == 0 || now.statements < least.statements {
				least = now
			}
		}
		require.Equal(t, test.want, least, name)
	}
}

// traffic is what went over the connections to a database. What wakes the workers is not in it: no call waits for that.
type traffic struct{ statements, trips, transactions int }

func (t traffic) minus(o traffic) traffic {
	return traffic{t.statements - o.statements, t.trips - o.trips, t.transactions - o.transactions}
}

// watcher stands between a program and its database.
type watcher struct {
	url string // in place of the database's

	mu    sync.Mutex
	total traffic
}

func watch(t *testing.T, database string) *watcher {
	t.Helper()
	address, err := url.Parse(database)
	require.NoError(t, err)
	query := address.Query()
	target := filepath.Join(query.Get("host"), ".s.PGSQL.5432")
	dir := t.TempDir()
	query.Set("host", dir)
	address.RawQuery = query.Encode()
	w := &watcher{url: address.String()}
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", target)
			if err != nil {
				t.Error(err)
				client.Close()
				return
			}
			c := &watched{watcher: w, prepared: map[string]string{}}
			go forward(server, client, false, c.asked)
			go forward(client, server, true, c.answered)
		}
	}()
	return w
}

func (w *watcher) seen() traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

// watched is one connection.
type watched struct {
	*watcher
	prepared map[string]string // statements by name
	bound    string            // the statement that the next Execute runs
	executed int               // since the connection was last ready
}

// asked looks at a message of the client: Parse, Bind, Execute and simple Query.
func (c *watched) asked(kind byte, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fields := bytes.SplitN(body, []byte{0}, 3)
	switch kind {
	case 'P':
		c.prepared[string(fields[0])] = string(fields[1])
	case 'B':
		c.bound = c.prepared[string(fields[1])]
	case 'Q':
		c.bound = string(fields[0])
	}
	if (kind == 'E' || kind == 'Q') && !strings.Contains(c.bound, "pg_notify") {
		c.executed++
	}
}

// answered looks at a message of the server: ReadyForQuery ends a round trip, and outside of a transaction that too.
func (c *watched) answered(kind byte, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind != 'Z' || c.executed == 0 {
		return
	}
	c.total.statements += c.executed
	c.total.trips++
	if body[0] == 'I' {
		c.total.transactions++
	}
	c.executed = 0
}

// forward copies messages and shows each to look. A client's first one, which opens the connection, has no kind.
func forward(to, from net.Conn, kinds bool, look func(kind byte, body []byte)) {
	defer to.Close()
	defer from.Close()
	for ; ; kinds = true {
		head := make([]byte, 5)
		if !kinds {
			head = head[:4]
		}
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if kinds {
			look(head[0], body)
		}
		if _, err := to.Write(append(head, body...)); err != nil {
			return
		}
	}
}
