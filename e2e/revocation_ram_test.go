package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/sdk"
)

// hammer calls two control planes with a key, again and again.
type hammer struct {
	t     *testing.T
	addrs []string
	key   sdk.Signer
	mu    sync.Mutex
	calls []hammered
}

// hammered is one call.
type hammered struct {
	addr   string
	began  time.Time
	status int
	code   string
}

// since are the calls that were begun after a time.
func (h *hammer) since(at time.Time) (later []hammered) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		if c.began.After(at) {
			later = append(later, c)
		}
	}
	return later
}

// during calls while a change is made, and until each process was called five times after it. It returns what was
// answered to calls that were begun when the change had been answered.
func (h *hammer) during(change func()) (after []hammered) {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, addr := range h.addrs {
		running.Go(func() {
			for ctx.Err() == nil {
				c := hammered{addr: addr, began: time.Now()}
				c.status, c.code, _ = signedCall(h.t, addr, h.key, gpdbVersion, "ListSupportModels", nil)
				h.mu.Lock()
				h.calls = append(h.calls, c)
				h.mu.Unlock()
			}
		})
	}
	eventually(h.t, 10*time.Second, "both are called", func() bool { return h.reached(time.Time{}, 2) })
	change()
	changed := time.Now()
	eventually(h.t, 10*time.Second, "both are called afterwards", func() bool { return h.reached(changed, 5) })
	return h.since(changed)
}

// reached reports whether each process was called so often after a time.
func (h *hammer) reached(at time.Time, calls int) bool {
	counts := map[string]int{}
	for _, c := range h.since(at) {
		counts[c.addr]++
	}
	for _, addr := range h.addrs {
		if counts[addr] < calls {
			return false
		}
	}
	return true
}

// signedCall calls an operation with JSON.
func signedCall(t *testing.T, addr string, key sdk.Signer, version, action string, params map[string]any) (status int, code string, body answer) {
	t.Helper()
	text, err := json.Marshal(params)
	if params == nil {
		text = []byte(`{}`)
	}
	if err != nil {
		t.Error(err)
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+addr+"/"+action, bytes.NewReader(text)) //nolint:noctx // it is answered at once
	if err != nil {
		t.Error(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if err := key.Sign(r, action, version); err != nil {
		t.Error(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return 0, "", nil
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		t.Error(err)
	}
	return response.StatusCode, body.text("Code"), body
}

// alice is a user whose rights are given and taken on one control plane and the other by turns.
type alice struct {
	t     *testing.T
	addrs []string
	turn  int
	key   sdk.Signer
}

const (
	mayList    = `{"Version":"1","Statement":[{"Effect":"Allow","Action":["gpdb:List*","sts:AssumeRole"],"Resource":"*"}]}`
	mayNotList = `{"Version":"1","Statement":[{"Effect":"Deny","Action":"gpdb:List*","Resource":"*"}]}`
)

// newAlice makes alice, and a group and a role that may list, as the second version of their policy does not.
func newAlice(t *testing.T, addrs ...string) *alice {
	t.Helper()
	a := &alice{t: t, addrs: addrs}
	a.ram("CreatePolicy", map[string]any{"PolicyName": "list", "PolicyDocument": mayList})
	a.ram("CreatePolicyVersion", map[string]any{"PolicyName": "list", "PolicyDocument": mayNotList})
	a.ram("CreateUser", map[string]any{"UserName": "alice"})
	a.ram("CreateGroup", map[string]any{"GroupName": "readers"})
	a.ram("AttachPolicyToGroup", map[string]any{"PolicyType": "Custom", "PolicyName": "list", "GroupName": "readers"})
	a.key = a.newKey()
	return a
}

func (a *alice) call(key sdk.Signer, version, action string, params map[string]any) answer {
	a.t.Helper()
	a.turn++
	status, code, body := signedCall(a.t, a.addrs[a.turn%len(a.addrs)], key, version, action, params)
	require.Equal(a.t, 200, status, "%s: %s", action, code)
	return body
}

// ram calls an operation as the account.
func (a *alice) ram(action string, params map[string]any) answer {
	a.t.Helper()
	return a.call(sdk.Signer{AccessKeyID: rootKey.id, AccessKeySecret: rootKey.secret}, "2015-05-01", action, params)
}

func (a *alice) newKey() sdk.Signer {
	a.t.Helper()
	made := a.ram("CreateAccessKey", map[string]any{"UserName": "alice"})["AccessKey"].(map[string]any)
	return sdk.Signer{AccessKeyID: made["AccessKeyId"].(string), AccessKeySecret: made["AccessKeySecret"].(string)}
}

func (a *alice) deleteKey(key sdk.Signer) {
	a.t.Helper()
	a.ram("DeleteAccessKey", map[string]any{"UserName": "alice", "UserAccessKeyId": key.AccessKeyID})
}

func (a *alice) attach() { a.t.Helper(); a.ram("AttachPolicyToUser", toAlice) }
func (a *alice) detach() { a.t.Helper(); a.ram("DetachPolicyFromUser", toAlice) }
func (a *alice) join()   { a.t.Helper(); a.ram("AddUserToGroup", inReaders) }
func (a *alice) leave()  { a.t.Helper(); a.ram("RemoveUserFromGroup", inReaders) }
func (a *alice) use(version string) {
	a.t.Helper()
	a.ram("SetDefaultPolicyVersion", map[string]any{"PolicyName": "list", "VersionId": version})
}

var (
	toAlice   = map[string]any{"PolicyType": "Custom", "PolicyName": "list", "UserName": "alice"}
	inReaders = map[string]any{"UserName": "alice", "GroupName": "readers"}
	lent      = map[string]any{"PolicyType": "Custom", "PolicyName": "list", "RoleName": "reader"}
)

// assume makes a role that may list, and begins a session of it.
func (a *alice) assume() sdk.Signer {
	a.t.Helper()
	a.join()
	a.ram("CreateRole", map[string]any{"RoleName": "reader", "AssumeRolePolicyDocument": trustAlice})
	a.ram("AttachPolicyToRole", lent)
	session := a.call(a.key, "2015-04-01", "AssumeRole", map[string]any{
		"RoleArn": "acs:ram::" + rootAccount + ":role/reader", "RoleSessionName": "laptop",
	})["Credentials"].(map[string]any)
	return sdk.Signer{
		AccessKeyID: session["AccessKeyId"].(string), AccessKeySecret: session["AccessKeySecret"].(string), SecurityToken: session["SecurityToken"].(string),
	}
}

// revocations are ways in which a key that was good is good no more.
func (a *alice) revocations() map[string]revocation {
	own := func(give func()) func() sdk.Signer { return func() sdk.Signer { give(); return a.key } }
	second := func() sdk.Signer { a.join(); return a.newKey() }
	denied, unknown := "403 Forbidden.RAM", "404 InvalidAccessKeyId.NotFound"
	return map[string]revocation{
		"a policy is detached":    {own(a.attach), func(sdk.Signer) { a.detach() }, func(sdk.Signer) {}, denied},
		"a policy is changed":     {own(a.attach), func(sdk.Signer) { a.use("v2") }, func(sdk.Signer) { a.use("v1"); a.detach() }, denied},
		"a user leaves its group": {own(a.join), func(sdk.Signer) { a.leave() }, func(sdk.Signer) {}, denied},
		"a key is deleted":        {second, a.deleteKey, func(sdk.Signer) { a.leave() }, unknown},
		"a key is made inactive": {second, func(key sdk.Signer) {
			a.ram("UpdateAccessKey", map[string]any{"UserName": "alice", "UserAccessKeyId": key.AccessKeyID, "Status": "Inactive"})
		}, func(key sdk.Signer) { a.leave(); a.deleteKey(key) }, "404 InvalidAccessKeyId.Inactive"},
		"a session's role may no more": {a.assume, func(sdk.Signer) { a.ram("DetachPolicyFromRole", lent) }, func(sdk.Signer) {
			a.ram("DeleteRole", map[string]any{"RoleName": "reader"})
			a.leave()
		}, denied},
		"a session's role is deleted": {func() sdk.Signer {
			key := a.assume()
			a.attach() // which is of no use to the session
			return key
		}, func(sdk.Signer) {
			a.ram("DetachPolicyFromRole", lent)
			a.ram("DeleteRole", map[string]any{"RoleName": "reader"})
		}, func(sdk.Signer) { a.detach(); a.leave() }, unknown},
	}
}

// revocation is one of them.
type revocation struct {
	grant  func() sdk.Signer
	revoke func(key sdk.Signer)
	undo   func(key sdk.Signer) // all else that was granted
	want   string
}

// What is revoked on one control plane is refused on every other at the next call, however busy both are.
func TestWhatIsRevokedOnOneControlPlaneIsRefusedOnTheOtherAtOnce(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	addrs := []string{s.controlPlane("api").addr, s.controlPlane("api").addr}
	a := newAlice(t, addrs...)
	for name, r := range a.revocations() {
		calls := 0
		for range 4 {
			key := r.grant()
			h := &hammer{t: t, addrs: addrs, key: key}
			after := h.during(func() { r.revoke(key) })
			require.Equal(t, 200, h.calls[0].status, "%s: before", name)
			for _, call := range after {
				require.Equal(t, r.want, fmt.Sprint(call.status, " ", call.code), "%s: at %s", name, call.addr)
			}
			calls += len(after)
			r.undo(key)
		}
		t.Logf("%s: %d calls were begun afterwards, and all refused", name, calls)
	}
}
