package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/engineshed/engineshed/sdk"
	"github.com/engineshed/engineshed/sdk/gpdb"
)

// ledger is what became of calls, by operation and outcome: ok, refused with a code, or unknown.
type ledger struct {
	mu      sync.Mutex
	calls   map[string]map[string]int
	wrong   []string
	changed time.Time // when a change was acknowledged last
}

func (l *ledger) book(operation, outcome string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = map[string]map[string]int{}
	}
	if l.calls[operation] == nil {
		l.calls[operation] = map[string]int{}
	}
	l.calls[operation][outcome]++
	if outcome == ok && operation != "chat" {
		l.changed = time.Now()
	}
}

// complain keeps what must not be.
func (l *ledger) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) < 100 {
		l.wrong = append(l.wrong, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (l *ledger) complaints() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.wrong)
}

func (l *ledger) lastChange() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, operation := range slices.Sorted(maps.Keys(l.calls)) {
		fmt.Fprintf(&b, "  %s:", operation)
		for _, outcome := range slices.Sorted(maps.Keys(l.calls[operation])) {
			fmt.Fprintf(&b, " %d %s;", l.calls[operation][outcome], outcome)
		}
		b.WriteString("\n")
	}
	return b.String()
}

const ok = "ok"

// outcome is what a client knows of a call. Decided is false where it cannot know whether the call happened.
func outcome(err error) (name string, decided bool) {
	refusal, isRefusal := errors.AsType[*sdk.Error](err)
	switch {
	case err == nil:
		return ok, true
	case isRefusal && refusal.StatusCode < 500:
		return "refused " + refusal.Code, refusal.Code != "InvalidTimeStamp.Expired" && refusal.Code != "UnexpectedAnswer"
	case isRefusal:
		return "unknown " + refusal.Code, false
	}
	return "unknown, no answer", false
}

// wanted is a service as it was acknowledged.
type wanted struct {
	id       string
	replicas int32
	length   int // max-model-len
	url, key string
}

// tenant is a client that has AI nodes of its own and one service at a time on them.
type tenant struct {
	*chaos
	name   string
	random *mathrand.Rand
	nodes  []string

	mu   sync.Mutex
	want *wanted // nil: none
	gone []string

	served string // the service that has answered through the gateway; chat's own
}

func newTenant(c *chaos, n int, nodes []string) *tenant {
	return &tenant{
		chaos: c, name: fmt.Sprint("tenant ", n), nodes: nodes,
		random: mathrand.New(mathrand.NewPCG(c.plan.seed, uint64(n+1))), //nolint:gosec // a test's choice of what to ask for
	}
}

func (t *tenant) wants() *wanted {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.want
}

func (t *tenant) nowWants(w *wanted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want = w
}

func (c *chaos) startLoad() {
	ctx, stop := context.WithCancel(c.t.Context())
	c.stopLoad = stop
	for _, t := range c.tenants {
		c.loads.Go(func() { t.run(ctx) })
		c.loads.Go(func() { t.chat(ctx) })
	}
	c.loads.Go(func() { c.watchman.run(ctx) })
}

func (c *chaos) endLoad() {
	c.stopLoad()
	c.loads.Wait()
}

// run makes one change after the other until ctx ends. A change that was begun comes to its end.
func (t *tenant) run(ctx context.Context) {
	for ctx.Err() == nil {
		t.pause.RLock()
		t.change(context.WithoutCancel(ctx))
		t.pause.RUnlock()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(t.random.IntN(1000)) * time.Millisecond):
		}
	}
}

func (t *tenant) change(ctx context.Context) {
	switch w := t.wants(); {
	case w == nil:
		t.create(ctx)
	case t.random.IntN(4) == 0:
		t.delete(ctx, w)
	case t.random.IntN(2) == 0:
		t.modify(ctx, w, int32(1+t.random.IntN(2)), 0)
	default:
		t.modify(ctx, w, 0, 1024*(1+t.random.IntN(8)))
	}
}

// decide repeats a call until it is decided: nil, or a refusal. What is repeated carries the same ClientToken. No call
// stays undecided for long once nothing is killed any more.
func (t *tenant) decide(operation string, again func(*sdk.Error) bool, call func(*sdk.Client) error) error {
	for deadline := time.Now().Add(3 * convergeLimit); ; {
		err := call(t.api())
		name, decided := outcome(err)
		t.ledger.book(operation, name)
		refusal, _ := errors.AsType[*sdk.Error](err)
		if decided && (refusal == nil || !again(refusal)) {
			return err
		}
		if time.Now().After(deadline) {
			t.ledger.complain("%s: %s is still undecided: %v", t.name, operation, err)
			return err
		}
		time.Sleep(100 * time.Millisecond) // a client's pause between two tries
	}
}

func never(*sdk.Error) bool { return false }

// stillBound: the nodes are given back as soon as the service that was deleted before has ended.
func stillBound(r *sdk.Error) bool { return r.Code == "OperationDenied.AiNodeBound" }

func (t *tenant) create(ctx context.Context) {
	w := &wanted{replicas: int32(1 + t.random.IntN(2)), length: 1024 * (1 + t.random.IntN(8))}
	token := rand.Text()
	err := t.decide("create", stillBound, func(c *sdk.Client) error {
		made, err := c.CreateModelService(ctx, gpdb.CreateModelServiceRequest{
			DBInstanceId: t.instance, ModelName: modelName, AiNodes: t.nodes, Replicas: &w.replicas, ClientToken: &token,
			ModelParams: &map[string]any{"max-model-len": w.length},
		})
		if err == nil {
			w.id = made.ModelServiceId
		}
		return err
	})
	if err != nil {
		t.ledger.complain("%s: %s: %v", t.name, "create", err)
		return
	}
	if t.watchman.isKnown(w.id) {
		t.ledger.complain("%s: two creates made %s", t.name, w.id)
	}
	t.nowWants(w)
}

func (t *tenant) modify(ctx context.Context, w *wanted, replicas int32, length int) {
	next, token := *w, rand.Text()
	request := gpdb.ModifyModelServiceRequest{DBInstanceId: t.instance, ModelServiceId: w.id, ClientToken: &token}
	if replicas > 0 {
		next.replicas, request.Replicas = replicas, &replicas
	}
	if length > 0 {
		next.length, request.ModelParams = length, &map[string]any{"max-model-len": length}
	}
	err := t.decide("modify", never, func(c *sdk.Client) error {
		_, err := c.ModifyModelService(ctx, request)
		return err
	})
	refusal, _ := errors.AsType[*sdk.Error](err)
	switch {
	case err == nil:
		t.nowWants(&next)
	case refusal != nil && refusal.Code == "OperationDenied.ServiceInterruption": // its spare nodes are on a host that is silent
	default:
		t.ledger.complain("%s: %s: %v", t.name, "modify", err)
	}
}

func (t *tenant) delete(ctx context.Context, w *wanted) {
	t.nowWants(nil) // from the first try on nobody may rely on it
	asked := 0
	err := t.decide("delete", never, func(c *sdk.Client) error {
		asked++
		_, err := c.DeleteModelService(ctx, gpdb.DeleteModelServiceRequest{DBInstanceId: t.instance, ModelServiceId: w.id})
		return err
	})
	refusal, _ := errors.AsType[*sdk.Error](err)
	switch {
	case err == nil:
	case refusal != nil && refusal.StatusCode == 404 && asked > 1: // an earlier try was heard
	default:
		t.ledger.complain("%s: %s: %v", t.name, "delete", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = append(t.gone, w.id)
}

// chat asks the tenant's service again and again. An answer is whole, or it is known not to be.
func (t *tenant) chat(ctx context.Context) {
	for stream := false; ctx.Err() == nil; stream = !stream {
		if w := t.wants(); w != nil {
			t.chatOnce(ctx, w, stream)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (t *tenant) chatOnce(ctx context.Context, w *wanted, stream bool) {
	if w.url == "" {
		described, err := t.api().DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{DBInstanceId: t.instance, ModelServiceId: w.id})
		if err != nil {
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.want == w {
			with := *w
			with.url, with.key = described.PrivateConnectUrl, described.ApiKey
			t.want = &with
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	said, err := chat(ctx, w.url, w.key, "hello", stream)
	switch {
	case ctx.Err() != nil:
	case err == nil && !strings.Contains(said, "simulated"):
		t.ledger.complain("%s: %s answered %q", t.name, w.id, said)
	case err == nil:
		t.served = w.id
		t.ledger.book("chat", ok)
	case strings.HasPrefix(err.Error(), "40") && t.served == w.id && t.wants() != nil && t.wants().id == w.id:
		t.ledger.complain("%s: %s was served and is not any more: %v", t.name, w.id, err)
	case len(err.Error()) > 3 && err.Error()[0] >= '4' && err.Error()[0] <= '5':
		t.ledger.book("chat", "refused "+err.Error()[:3])
	default:
		t.ledger.book("chat", "cut or not answered")
	}
}
