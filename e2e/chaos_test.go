package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/sdk"
)

// chaosPlan is how much is killed, and how often it is judged whether the world is as it should be.
type chaosPlan struct {
	seed         uint64
	kills        int
	every        time.Duration // from one to the next
	judgeEvery   int           // kills
	tenants      int
	longestPause time.Duration // of a process that is stopped and goes on
}

// chaosOf is a short run in every run of the tests; ENGINESHED_KILLS=500 makes the long one of `make chaos`, and
// ENGINESHED_SEED repeats the choices of another run.
func chaosOf(t *testing.T) chaosPlan {
	t.Helper()
	number := func(name string, otherwise uint64) uint64 {
		text := os.Getenv(name)
		if text == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, name)
		return n
	}
	p := chaosPlan{
		seed: number("ENGINESHED_SEED", uint64(time.Now().UnixNano())), kills: int(number("ENGINESHED_KILLS", 0)),
		every: 2 * time.Second, judgeEvery: 50, tenants: 6, longestPause: 15 * time.Second,
	}
	if p.kills == 0 {
		p.kills, p.every, p.judgeEvery, p.tenants, p.longestPause = 13, 500*time.Millisecond, 13, 3, 3*time.Second
	}
	return p
}

const (
	nodesOfTenant  = 3
	convergeLimit  = 60 * time.Second
	longestStop    = 4 * time.Second // of what answers calls
	firstWrite     = 5*time.Second + longestStop
	workedAgain    = 30 * time.Second
	chaosHungAfter = 6 * time.Second
)

// chaos is an installation of two hosts under load, in which one process after the other is killed or stopped.
type chaos struct {
	*shed
	plan     chaosPlan
	server   *pgtest.Server
	random   *rand.Rand
	instance string
	apis     []*member
	workers  []*member
	entrance *member
	tenants  []*tenant
	ledger   ledger
	watchman *watchman
	stopLoad context.CancelFunc
	loads    sync.WaitGroup
	pause    sync.RWMutex // held for reading by each call that changes something
	zombies  []*process   // workers whose place another has taken
	dead     []*process
	kills    map[string]int
	due      []func() string          // what is done next
	slowest  map[string]time.Duration // by what was waited for
}

// member is one of our processes: the one that was started last in its place.
type member struct {
	name    string
	host    string
	launch  func() endpoint
	now     endpoint
	client  atomic.Pointer[sdk.Client]
	stopped atomic.Pointer[process] // nil unless it stands still
}

// What is acknowledged holds, what should run runs once, what should not does not, and what is said is true: while
// processes of every kind are killed and stopped.
func TestTheWorldIsAsAcknowledgedAfterKills(t *testing.T) {
	t.Parallel()
	c := newChaos(t, chaosOf(t))
	c.startLoad()
	for n := 1; n <= c.plan.kills; n++ {
		began := time.Now()
		what := c.strike()
		c.kills[what]++
		t.Logf("%3d %s", n, what)
		c.expectNobodyEnded()
		if n%c.plan.judgeEvery == 0 || n == c.plan.kills {
			c.judge(n)
			continue
		}
		time.Sleep(max(0, c.plan.every-time.Since(began))) // the pace of the kills
	}
	c.endLoad()
	c.judgeEmpty()
	t.Log(c.report())
}

func newChaos(t *testing.T, plan chaosPlan) *chaos {
	t.Helper()
	t.Logf("ENGINESHED_SEED=%d, %d kills", plan.seed, plan.kills)
	server := pgtest.NewServer(t, "fsync=on")
	c := &chaos{
		shed: newShed(t, server.DB), plan: plan, server: server, kills: map[string]int{}, slowest: map[string]time.Duration{},
		random: rand.New(rand.NewPCG(plan.seed, 0)), //nolint:gosec // a test's choice of what to kill
	}
	c.vllm += " --sim-startup-delay=300ms --sim-inter-token-latency=5ms"
	c.flags = []string{"--hung-after", chaosHungAfter.String(), "--host-lost-after", "12s", "--drain-limit", "5s"}
	for _, n := range []string{"0", "1"} {
		c.apis = append(c.apis, c.join("API", n, func() endpoint { return c.controlPlane("api") }))
	}
	for _, host := range []string{"host-a", "host-b"} {
		c.workers = append(c.workers, c.join("worker", host, func() endpoint { return c.controlPlaneOn(host, "worker") }))
	}
	c.entrance = c.join("gateway", "", func() endpoint { return endpoint{process: c.startGateway()} })
	caller := newDarabonba(t, c.apis[0].now.addr, rootKey)
	instance, nodes := newInstance(t, caller, nodesOfTenant*plan.tenants)
	c.instance = instance
	_, err := c.db.Owner.Exec(t.Context(), `
		UPDATE ai_node SET host = 'host-b' WHERE name IN (SELECT name FROM ai_node ORDER BY name LIMIT (SELECT count(*) / 2 FROM ai_node))`)
	require.NoError(t, err)
	c.random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for n := range plan.tenants {
		c.tenants = append(c.tenants, newTenant(c, n, nodes[n*nodesOfTenant:][:nodesOfTenant]))
	}
	c.watchman = newWatchman(c)
	return c
}

// join starts a member.
func (c *chaos) join(name, host string, launch func() endpoint) *member {
	m := &member{name: name, host: host, launch: launch}
	c.startMember(m)
	return m
}

// startMember starts a process in the member's place.
func (c *chaos) startMember(m *member) {
	began := time.Now()
	m.now = m.launch()
	c.note(m.name+" ready", time.Since(began))
	m.stopped.Store(nil)
	if m.name != "API" {
		return
	}
	client, err := sdk.New(sdk.Config{
		Endpoint: "http://" + m.now.addr, AccessKeyID: rootKey.id, AccessKeySecret: rootKey.secret,
		HTTPClient: &http.Client{Timeout: 3 * time.Second},
	})
	require.NoError(c.t, err)
	m.client.Store(client)
}

// note keeps the longest wait of each kind.
func (c *chaos) note(what string, took time.Duration) { c.slowest[what] = max(c.slowest[what], took) }

// strike does one bad thing and says what. All kinds have had their turn before one comes again.
func (c *chaos) strike() string {
	if len(c.due) == 0 {
		c.due = c.strikes()
		c.random.Shuffle(len(c.due), func(i, j int) { c.due[i], c.due[j] = c.due[j], c.due[i] })
	}
	next := c.due[0]
	c.due = c.due[1:]
	return next()
}

func (c *chaos) strikes() []func() string {
	return []func() string{
		func() string { return c.killMember(c.apis) },
		func() string { return c.killMember(c.workers) },
		func() string { return c.killMember(c.workers) },
		func() string { return c.killMember([]*member{c.entrance}) },
		func() string { return c.stopMember(c.apis) },
		func() string { return c.stopMember(c.workers) },
		func() string { return c.stopMember([]*member{c.entrance}) },
		c.replaceWorker,
		func() string { return c.signalEngine(syscall.SIGKILL, "engine killed") },
		func() string { return c.signalEngine(syscall.SIGKILL, "engine killed") },
		func() string { return c.signalEngine(syscall.SIGSTOP, "engine stopped") },
		c.crashPostgres, c.crashPostgres,
	}
}

func (c *chaos) killMember(of []*member) string {
	m := of[c.random.IntN(len(of))]
	c.bury(m.now.process)
	if m.name == "worker" {
		c.watchman.interrupted(m.host)
	}
	c.startMember(m)
	return m.name + " killed"
}

// bury kills a process. Of those that ended long ago nothing is shown.
func (c *chaos) bury(p *process) {
	p.kill()
	c.dead = append(c.dead, p)
	if len(c.dead) > 6 {
		c.dead[0].silent.Store(true)
		c.dead = c.dead[1:]
	}
}

// stopMember stops a process, which goes on after a while unless it is killed before.
func (c *chaos) stopMember(of []*member) string {
	m := of[c.random.IntN(len(of))]
	p := m.now.process
	longest := c.plan.longestPause
	if m.name != "worker" {
		longest = min(longest, longestStop)
	}
	pause := time.Duration(c.random.Int64N(int64(longest)))
	m.stopped.Store(p)
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	time.AfterFunc(pause, func() {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		m.stopped.CompareAndSwap(p, nil)
	})
	return m.name + " stopped"
}

// replaceWorker starts another worker beside one that stands still and then goes on.
func (c *chaos) replaceWorker() string {
	m := c.workers[c.random.IntN(len(c.workers))]
	p := m.now.process
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	c.startMember(m)
	c.zombies = append(c.zombies, p)
	time.AfterFunc(time.Duration(c.random.Int64N(int64(2*c.plan.longestPause))), func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) })
	return "worker replaced while stopped"
}

func (c *chaos) signalEngine(signal syscall.Signal, what string) string {
	pids := slices.Sorted(maps.Keys(c.pids()))
	if len(pids) == 0 {
		return "engine spared: there is none"
	}
	_ = syscall.Kill(pids[c.random.IntN(len(pids))], signal)
	return what
}

func (c *chaos) crashPostgres() string {
	c.server.Kill()
	time.Sleep(time.Duration(c.random.IntN(1500)) * time.Millisecond) // it is away for a while
	c.server.Start()
	c.watchman.interrupted("host-a", "host-b")
	returned := time.Now()
	eventually(c.t, firstWrite, "a write after Postgres is back", c.writes)
	c.note("first write after Postgres is back", time.Since(returned))
	return "Postgres crashed"
}

// resume lets everything go on that is stopped. Engines stay as they are: their workers have to find out.
func (c *chaos) resume() {
	for _, m := range slices.Concat(c.apis, c.workers, []*member{c.entrance}) {
		_ = m.now.cmd.Process.Signal(syscall.SIGCONT)
		m.stopped.Store(nil)
	}
	for _, p := range c.zombies {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
}

// expectNobodyEnded asserts that no process has ended but by a kill.
func (c *chaos) expectNobodyEnded() {
	c.t.Helper()
	for _, m := range slices.Concat(c.apis, c.workers, []*member{c.entrance}) {
		select {
		case <-m.now.done:
			require.Fail(c.t, "a process ended by itself", "%s %s: %v", m.name, m.host, m.now.err)
		default:
		}
	}
}

// api is an API process that is not stopped, if there is one.
func (c *chaos) api() *sdk.Client {
	first := rand.IntN(len(c.apis)) //nolint:gosec // any will do
	for n := range c.apis {
		if m := c.apis[(first+n)%len(c.apis)]; m.stopped.Load() == nil {
			return m.client.Load()
		}
	}
	return c.apis[first].client.Load()
}

func (c *chaos) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d kills:\n", c.plan.seed, c.plan.kills)
	for _, what := range slices.Sorted(maps.Keys(c.kills)) {
		fmt.Fprintf(&b, "  %4d %s\n", c.kills[what], what)
	}
	b.WriteString(c.ledger.String())
	for _, what := range slices.Sorted(maps.Keys(c.slowest)) {
		fmt.Fprintf(&b, "  at most %s: %s\n", c.slowest[what].Round(time.Millisecond), what)
	}
	b.WriteString(c.watchman.String())
	return b.String()
}
