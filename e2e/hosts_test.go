//go:build hosts

package e2e

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

// machine is a machine of its own as far as Linux can make one: network, processes and their table. It can be cut off, and it
// can lose its power.
type machine struct {
	t           testing.TB
	shed        *shed
	name        string // of the host
	addr        string
	link        string // its cable, at the end that is not in it
	dataDir     string // on its disk
	databaseURL string
	first       *process // everything on it ends with it
	worker      *process
}

// yard is an installation on several machines: Postgres, API and gateway on this one, workers and engines on the others.
type yard struct {
	*shed
	server   *pgtest.Server
	machines []*machine
	bridge   string
	subnet   string
	api      endpoint
	caller   caller
	hostOf   map[string]string // of AI nodes
}

// ip runs the program ip.
func ip(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
}

// newYard makes the machines, one for each name, and a network that joins them to this one. Nothing runs on them yet but
// their workers.
func newYard(t *testing.T, names ...string) *yard {
	t.Helper()
	require.Zero(t, os.Getuid(), "machines are made of namespaces, which root may make")
	number := os.Getpid() % 250
	bridge, subnet := fmt.Sprintf("shed%d", number), fmt.Sprintf("10.213.%d", number)
	here := subnet + ".1"
	ip(t, "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { ip(t, "link", "del", bridge) })
	ip(t, "addr", "add", here+"/24", "dev", bridge)
	ip(t, "link", "set", bridge, "up")

	server := pgtest.NewServer(t, "listen_addresses="+here, "hba_file="+hostBasedAccess(t, subnet+".0/24"))
	y := &yard{shed: newShed(t, server.DB), server: server, bridge: bridge, subnet: subnet}
	y.vllm += " --sim-inter-token-latency=200ms"
	y.api = y.controlPlane("api")
	y.caller = newDarabonba(t, y.api.addr, rootKey)
	for _, name := range names {
		y.addMachine(name)
	}
	return y
}

// addMachine makes another machine and starts it.
func (y *yard) addMachine(name string) *machine {
	y.t.Helper()
	n := len(y.machines)
	m := &machine{
		t: y.t, shed: y.shed, name: name, addr: fmt.Sprintf("%s.%d", y.subnet, n+2), link: fmt.Sprintf("%s-%d", y.bridge, n),
		dataDir: y.path(fmt.Sprint("disk-", n)), databaseURL: overTCP(y.t, y.server.ControlURL, y.subnet+".1"),
	}
	m.connect(y.bridge)
	m.boot()
	y.machines = append(y.machines, m)
	return m
}

// hostBasedAccess is a pg_hba.conf that lets the control plane's role in over the network.
func hostBasedAccess(t *testing.T, subnet string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hba-") //nolint:usetesting // Postgres is another user: t.TempDir's parent is closed to it
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "pg_hba.conf")
	rules := "local all all trust\nhost all engineshed_control " + subnet + " scram-sha-256\n"
	require.NoError(t, os.WriteFile(path, []byte(rules), 0o644)) //nolint:gosec // it holds no secret
	require.NoError(t, os.Chmod(dir, 0o755))                     //nolint:gosec // likewise
	return path
}

// overTCP is a database URL with an address in place of a socket.
func overTCP(t testing.TB, database, addr string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	u.Host, u.RawQuery = addr+":5432", ""
	return u.String()
}

func (m *machine) namespace() string { return m.link }

// connect makes the machine's network and plugs it in.
func (m *machine) connect(bridge string) {
	ip(m.t, "netns", "add", m.namespace())
	m.t.Cleanup(func() { ip(m.t, "netns", "del", m.namespace()) })
	ip(m.t, "link", "add", m.link, "type", "veth", "peer", "name", "eth0", "netns", m.namespace())
	ip(m.t, "link", "set", m.link, "master", bridge, "up")
	ip(m.t, "-n", m.namespace(), "addr", "add", m.addr+"/24", "dev", "eth0")
	ip(m.t, "-n", m.namespace(), "link", "set", "eth0", "up")
	ip(m.t, "-n", m.namespace(), "link", "set", "lo", "up")
}

// boot starts the machine and its worker, and waits until that is ready.
func (m *machine) boot() {
	m.t.Helper()
	m.first = startCommand(m.t, nil, m.name, exec.Command("ip", "netns", "exec", m.namespace(),
		"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", "sleep infinity & wait"))
	eventually(m.t, 5*time.Second, m.name+" has started", func() bool { return onlyChild(m.first.cmd.Process.Pid) != 0 })
	m.startWorker()
}

// startWorker starts the machine's worker and waits until it is ready.
func (m *machine) startWorker() {
	m.t.Helper()
	admin := m.addr + ":8081"
	args := []string{"--target", strconv.Itoa(onlyChild(m.first.cmd.Process.Pid)), "--net", "--pid", "--mount", "--", filepath.Join(binaries, "controlplane")}
	args = append(args, m.shed.controlPlaneFlags("worker", m.name, admin)...)
	args = append(args, "--engine-addr", m.addr, "--data-dir", m.dataDir)
	m.worker = startCommand(m.t, []string{"DATABASE_URL=" + m.databaseURL, "VLLM_COMMAND=" + m.shed.vllm}, m.name, exec.Command("nsenter", args...))
	m.shed.waitReady("http://"+admin, m.worker)
}

// onlyChild is the process that pid started; 0 while there is none.
func onlyChild(pid int) int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	first, _, _ := strings.Cut(string(children), " ")
	child, _ := strconv.Atoi(first)
	return child
}

// cutOff pulls the machine's cable: whatever is sent to it or by it is lost, and nobody is told.
func (m *machine) cutOff() { ip(m.t, "link", "set", m.link, "down") }

// plugIn is the end of cutOff.
func (m *machine) plugIn() { ip(m.t, "link", "set", m.link, "up") }

// powerOff kills everything on the machine at once.
func (m *machine) powerOff() {
	m.first.kill()
	<-m.worker.done
}

// engines are the processes of engines on the machine.
func (m *machine) engines() (pids []int) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", onlyChild(m.first.cmd.Process.Pid)))
	require.NoError(m.t, err)
	for _, of := range m.shed.engines() {
		for _, pid := range of {
			if where, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); where == own {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// files are what engines have left on the machine.
func (m *machine) files() []string {
	entries, err := os.ReadDir(filepath.Join(m.dataDir, "replicas"))
	require.NoError(m.t, err)
	names := make([]string, len(entries))
	for n, entry := range entries {
		names[n] = entry.Name()
	}
	return names
}

// spread deploys a service with a replica on each machine and as many spare AI nodes, and waits until it is served.
func (y *yard) spread() (ids map[string]string, described answer) {
	y.t.Helper()
	t := y.t.(*testing.T)
	count := len(y.machines)
	instance, _ := newInstance(t, y.caller, 2*count)
	pools, err := y.caller.call("ListAINodePools", map[string]string{"DBInstanceId": instance})
	require.NoError(t, err)
	y.hostOf = map[string]string{}
	onHost := map[string][]string{}
	for _, n := range pools["AINodePoolInfos"].([]any)[0].(map[string]any)["AINodeInfos"].([]any) {
		node := n.(map[string]any)
		name, host := node["NodeName"].(string), node["ZoneId"].(string)
		y.hostOf[name] = host
		onHost[host] = append(onHost[host], name)
	}
	var first, spare []string
	for _, m := range y.machines {
		require.Len(t, onHost[m.name], 2, "AI nodes are spread")
		first, spare = append(first, onHost[m.name][0]), append(spare, onHost[m.name][1])
	}
	params := createParams(instance, slices.Concat(first, spare)...)
	params["Replicas"] = strconv.Itoa(count)
	made, err := y.caller.call("CreateModelService", params)
	require.NoError(t, err)
	ids = map[string]string{"DBInstanceId": instance, "ModelServiceId": made.text("ModelServiceId")}
	described = waitActive(t, y.caller, instance, ids["ModelServiceId"], 30*time.Second)
	require.Equal(t, count, len(y.replicasOn(ids)))
	return ids, described
}

// replicasOn are the hosts of the service's replicas that are active, each with how many.
func (y *yard) replicasOn(ids map[string]string) map[string]int {
	y.t.Helper()
	now, err := y.caller.call("DescribeModelService", ids)
	require.NoError(y.t, err)
	hosts := map[string]int{}
	for _, r := range now["Replicas"].([]any) {
		if replica := r.(map[string]any); replica["Status"] == "active" {
			hosts[y.hostOf[replica["AiNode"].(string)]]++
		}
	}
	return hosts
}
