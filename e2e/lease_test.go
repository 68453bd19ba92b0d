package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// leaseOfHosts is how long a host is believed, and then some for a read to be answered.
const leaseOfHosts = 10*time.Second + time.Second

// reads are what Describe and List say of the instance's services, by id: state, reason and the replicas' states.
func reads(t *testing.T, c caller, instance string) map[string]string {
	t.Helper()
	listed, err := c.call("ListModelServices", map[string]string{"DBInstanceId": instance})
	require.NoError(t, err)
	all := map[string]string{}
	for _, of := range listed["ModelServices"].([]any) {
		inList := answer(of.(map[string]any))
		id := inList.text("ModelServiceId")
		described, err := c.call("DescribeModelService", map[string]string{"DBInstanceId": instance, "ModelServiceId": id})
		require.NoError(t, err)
		all[id] = fmt.Sprintf("%s %s %s", inList.text("Status"), described.text("Status"), described.text("StatusReason"))
		for _, r := range described["Replicas"].([]any) {
			all[id] += fmt.Sprintf(" [%s]", r.(map[string]any)["Status"])
		}
	}
	return all
}

func TestAStateOlderThanItsLeaseIsUnknown(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	api, stopped := s.controlPlane("api"), s.controlPlaneOn("host-a", "worker")
	s.controlPlaneOn("host-b", "worker")
	c := newDarabonba(t, api.addr, rootKey)
	instance, nodes := newInstance(t, c, 4) // in turn on both hosts
	host := map[string]string{}
	rows, err := s.db.Owner.Query(t.Context(), `SELECT name, host FROM ai_node`)
	require.NoError(t, err)
	for rows.Next() {
		var name, on string
		require.NoError(t, rows.Scan(&name, &on))
		host[name] = on
	}
	require.NoError(t, rows.Err())
	onA := map[string]bool{}
	for _, node := range nodes {
		service := deploy(t, c, instance, node)
		onA[service] = host[node] == "host-a"
		waitActive(t, c, instance, service, 20*time.Second)
	}

	require.NoError(t, stopped.cmd.Process.Signal(syscall.SIGSTOP))
	at := time.Now()
	for _, pids := range s.engines() { // nobody sees that the engines of host-a end; those of host-b start again
		require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
	}
	isUnknown := func(read string) bool {
		return strings.HasPrefix(read, "degraded degraded ") && strings.HasSuffix(read, " [unknown]") &&
			strings.Contains(read, "is unknown: host host-a last reported")
	}
	for read := reads(t, c, instance); time.Since(at) < 2*leaseOfHosts; read = reads(t, c, instance) {
		for id, says := range read {
			require.True(t, !onA[id] || isUnknown(says) || time.Since(at) < leaseOfHosts, says)
			require.True(t, onA[id] || !strings.Contains(says, "unknown"), says)
		}
		time.Sleep(100 * time.Millisecond)
	}
	require.NoError(t, stopped.cmd.Process.Signal(syscall.SIGCONT))
	eventually(t, 20*time.Second, "all answer again", func() bool {
		for _, says := range reads(t, c, instance) {
			if says != "active active  [active]" {
				return false
			}
		}
		return true
	})
	s.expectEngines(5*time.Second, 4)
}
