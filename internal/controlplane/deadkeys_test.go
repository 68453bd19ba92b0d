package controlplane

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const trustsRoot = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":["acs:ram::` + accountA + `:root"]}}]}`

// A call that nobody signed, or that was signed with a key or a session that is no more, does nothing, whatever it asks
// for and however it is signed. It leaves no row in the trail, and is counted.
func TestNoOperationIsOpenedByADeadKey(t *testing.T) {
	t.Parallel()
	i := install(t)
	a := i.open(accountA, "alpha")
	dead := a.deadKeys()
	want := map[string]refusal{
		"deleted with its user":          {404, "InvalidAccessKeyId.NotFound"},
		"inactive":                       {404, "InvalidAccessKeyId.Inactive"},
		"a session that is over":         {400, "InvalidSecurityToken.Expired"},
		"a session whose role is gone":   {404, "InvalidAccessKeyId.NotFound"},
		"a session without its token":    {400, "MissingSecurityToken"},
		"a session with another's token": {400, "InvalidSecurityToken.MismatchWithAccessKey"},
	}
	require.Len(t, dead, len(want))
	before, trails := i.rows(), query[trail](i, allTrails)
	refused, counted := map[string]int64{}, i.signIns.Totals()
	for _, op := range everyOperation(t) {
		for dialect, sign := range op.dialects() {
			r := sign(t, i.url, a.root, op.example)
			unsign(r)
			got := i.send(r)
			require.Equal(t, refusal{400, "MissingParameter"}, got.refusal(), "%s unsigned, in %s", op.name(), dialect)
			refused[got.code]++
			for name, key := range dead {
				got := i.send(sign(t, i.url, key, op.example))
				require.Equal(t, want[name], got.refusal(), "%s with a key that is %s, in %s: %s", op.name(), name, dialect, got.text)
				refused[got.code]++
			}
		}
	}
	require.Equal(t, before, i.rows())
	require.Equal(t, trails, query[trail](i, allTrails), "nobody is known to have called")
	for code, n := range i.signIns.Totals() {
		require.Equal(t, refused[code], n-counted[code], "%s is counted", code)
		delete(refused, code)
	}
	require.Empty(t, refused, "not counted")
}

const allTrails = `SELECT outcome, action, principal, resource, code FROM audit_event ORDER BY id`

// refusal is the status and the code of an answer.
type refusal struct {
	status int
	code   string
}

func (a answer) refusal() refusal { return refusal{a.status, a.code} }

// unsign takes the signature off a request.
func unsign(r *http.Request) {
	r.Header.Del("Authorization")
	query := r.URL.Query()
	query.Del("Signature")
	r.URL.RawQuery = query.Encode()
}

// deadKeys are keys that were good for everything in the account once.
func (a *account) deadKeys() map[string]signer {
	a.t.Helper()
	a.do("ram:CreateUser", object{"UserName": "dead"})
	a.do("ram:AttachPolicyToUser", object{"UserName": "dead", "PolicyType": "System", "PolicyName": "AdministratorAccess"})
	inactive := a.newKey("dead")
	a.do("ram:CreateUser", object{"UserName": "gone"})
	deleted := a.newKey("gone")
	for _, role := range []string{"short", "gone"} {
		a.do("ram:CreateRole", object{"RoleName": role, "AssumeRolePolicyDocument": trustsRoot})
		a.do("ram:AttachPolicyToRole", object{"RoleName": role, "PolicyType": "System", "PolicyName": "AdministratorAccess"})
	}
	expired, orphan, other := a.assume(inactive, "short"), a.assume(inactive, "gone"), a.assume(inactive, "short")
	keys := map[string]signer{
		"inactive": inactive, "deleted with its user": deleted, "a session that is over": expired, "a session whose role is gone": orphan,
		"a session without its token":    {other.id, other.secret, ""},
		"a session with another's token": {other.id, other.secret, expired.token},
	}
	for _, key := range []signer{inactive, deleted, expired, orphan, other} {
		got := a.call(key, a.operations["sts:GetCallerIdentity"], object{})
		require.Equal(a.t, 200, got.status, got.text)
	}
	a.do("ram:UpdateAccessKey", object{"UserName": "dead", "UserAccessKeyId": inactive.id, "Status": "Inactive"})
	a.do("ram:DeleteAccessKey", object{"UserName": "gone", "UserAccessKeyId": deleted.id})
	a.do("ram:DeleteUser", object{"UserName": "gone"})
	a.do("ram:DetachPolicyFromRole", object{"RoleName": "gone", "PolicyType": "System", "PolicyName": "AdministratorAccess"})
	a.do("ram:DeleteRole", object{"RoleName": "gone"})
	a.exec(`UPDATE sts_session SET expires_at = now() - interval '1 second' WHERE id = $1`, expired.id)
	return keys
}

// newKey makes a key of a user of the account.
func (a *account) newKey(user string) signer {
	a.t.Helper()
	key := a.do("ram:CreateAccessKey", object{"UserName": user})["AccessKey"].(object)
	return signer{id: key["AccessKeyId"].(string), secret: key["AccessKeySecret"].(string)}
}

// assume begins a session of a role of the account.
func (a *account) assume(key signer, role string) signer {
	a.t.Helper()
	got := a.call(key, a.operations["sts:AssumeRole"], object{"RoleArn": "acs:ram::" + a.id + ":role/" + role, "RoleSessionName": "laptop"})
	require.Equal(a.t, 200, got.status, got.text)
	lent := got.body["Credentials"].(object)
	return signer{lent["AccessKeyId"].(string), lent["AccessKeySecret"].(string), lent["SecurityToken"].(string)}
}
