package controlplane

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every call to an operation that changes something, and that comes to authorization, leaves one row: however it ends.
// The row of a call that was done is of the transaction of what it changed, so that neither is there without the other.
func TestEveryMutatingCallLeavesOneRowHoweverItEnds(t *testing.T) {
	t.Parallel()
	i := install(t)
	a := i.open(accountA, "alpha")
	a.furnish()
	a.do("ram:CreateUser", object{"UserName": "nobody"})
	w := &witness{a, a.newKey("nobody")}
	i.breakTrail()
	for _, op := range everyOperation(t) {
		if !op.mutates() {
			continue
		}
		t.Run(op.name(), func(t *testing.T) {
			params := a.fit(op)
			if prepare := prepares[op.name()]; prepare != nil {
				prepare(a, params)
			}
			w.refusesBeforeAuthorization(t, op, params)
			w.denies(t, op, params)
			w.doesNothingUnaudited(t, op, params)
			w.failsForWhatIsNot(t, op, params)
			w.does(t, op, params)
			w.repeats(t, op, params)
		})
	}
	outcomes := map[string]int{}
	for _, row := range query[trail](i, allTrails) {
		outcomes[row.Outcome]++
	}
	t.Logf("rows by outcome: %v", outcomes)
	twice := query[struct{ RequestID string }](i, `SELECT request_id FROM audit_event GROUP BY request_id HAVING count(*) > 1`)
	require.Empty(t, twice)
}

// Reading leaves no row and changes nothing.
func TestNoReadingCallLeavesARow(t *testing.T) {
	t.Parallel()
	i := install(t)
	a := i.open(accountA, "alpha")
	a.furnish()
	before, trails := i.rows(), query[trail](i, allTrails)
	for _, op := range everyOperation(t) {
		if op.mutates() {
			continue
		}
		params := a.fit(op)
		if op.name() == "gpdb:GetModelServiceLogs" { // asks the host when there is such a replica
			params["Replica"] = 7
		}
		got := a.call(a.root, op, params)
		require.True(t, got.status == 200 || got.status == 404 && op.name() == "gpdb:GetModelServiceLogs", "%s: %s", op.name(), got.text)
	}
	require.Equal(t, before, i.rows())
	require.Equal(t, trails, query[trail](i, allTrails))
}

// witness makes calls and looks at what they leave.
type witness struct {
	*account
	nobody signer
}

// caller is who may make a call to the operation, and its ARN.
func (w *witness) caller(op operation) (signer, string) {
	if op.name() == "sts:AssumeRole" { // no account does so itself
		return w.user, "acs:ram::" + w.id + ":user/everything"
	}
	return w.root, "acs:ram::" + w.id + ":root"
}

// leaves makes a call that leaves rows in the trail, each with the code that it was answered, or none. It returns what
// else was written or is gone.
func (w *witness) leaves(t *testing.T, call func() answer, want ...trail) (got answer, written []string) {
	t.Helper()
	before, count := w.rows(), w.trailLength()
	got = call()
	require.NotEmpty(t, got.requestID)
	for n := range want {
		want[n].Code = got.code
	}
	require.Equal(t, append([]trail{}, want...), w.trailOf(got.requestID), got.text)
	require.Equal(t, count+len(want), w.trailLength(), "it is the only one")
	after := w.rows()
	return got, append(without(after, before), without(before, after)...)
}

func (w *witness) trailLength() int { return len(query[trail](w.installation, allTrails)) }

// about is the ARN that a call is about, as x-ram says.
func (w *witness) about(op operation, params object) string {
	ram := op.Extensions["x-ram"].(object)
	arn, account := fmt.Sprint(ram["arn"]), w.id
	if ram["resource"] == "*" {
		return "*"
	}
	if strings.Contains(arn, "{PolicyName}") && params["PolicyType"] == "System" {
		account = "system"
	}
	arn = strings.NewReplacer("{region}", theRegion, "{account}", account).Replace(arn)
	return regexp.MustCompile(`\{\w+\}`).ReplaceAllStringFunc(arn, func(name string) string { return fmt.Sprint(params[strings.Trim(name, "{}")]) })
}

// refusesBeforeAuthorization holds if a call that makes no sense leaves nothing.
func (w *witness) refusesBeforeAuthorization(t *testing.T, op operation, params object) {
	t.Helper()
	got, written := w.leaves(t, func() answer {
		r := op.request(t, w.url, params)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{")), 1
		r.Header.Set("Content-Type", "application/json")
		key, _ := w.caller(op)
		return w.send(key.sign(t, op, r))
	})
	require.Equal(t, refusal{400, "InvalidParameter"}, got.refusal(), got.text)
	require.Empty(t, written)
}

// denies holds if the call is denied to who may do nothing.
func (w *witness) denies(t *testing.T, op operation, params object) {
	t.Helper()
	code := "NoPermission"
	if op.product == "gpdb" {
		code = "Forbidden.RAM"
	}
	got, written := w.leaves(t, func() answer { return w.call(w.nobody, op, params) },
		trail{Outcome: "denied", Action: op.name(), Principal: "acs:ram::" + w.id + ":user/nobody", Resource: w.about(op, params)})
	require.Equal(t, refusal{403, code}, got.refusal(), got.text)
	require.Empty(t, written)
}

// doesNothingUnaudited holds if the call does nothing, and is not even denied, while its row cannot be written or committed.
func (w *witness) doesNothingUnaudited(t *testing.T, op operation, params object) {
	t.Helper()
	key, _ := w.caller(op)
	for _, when := range []string{"BEFORE", "AFTER"} {
		w.exec(`INSERT INTO audit_broken VALUES ($1)`, when)
		for _, caller := range []signer{key, w.nobody} { // what is done, and what is denied
			got, written := w.leaves(t, func() answer { return w.call(caller, op, params) })
			require.Equal(t, refusal{503, "ServiceUnavailable"}, got.refusal(), got.text)
			require.Empty(t, written)
		}
		w.exec(`DELETE FROM audit_broken`)
	}
}

// breakTrail lets no row of the trail be written while audit_broken says BEFORE, and none be committed while it says
// AFTER, as on a full disk.
func (i *installation) breakTrail() {
	i.t.Helper()
	i.exec(`CREATE TABLE audit_broken (how text)`)
	i.exec(`CREATE FUNCTION break_trail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN
			IF EXISTS (SELECT FROM public.audit_broken WHERE how = TG_WHEN) THEN
				RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full';
			END IF;
			RETURN NEW;
		END $$`)
	i.exec(`CREATE TRIGGER break_insert BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION break_trail()`)
	i.exec(`CREATE CONSTRAINT TRIGGER break_commit AFTER INSERT ON audit_event DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION break_trail()`)
}

// failsOn are the fields whose value makes the call fail, where it is not the first.
var failsOn = map[string]string{"apig:DeployHttpApi": "httpApiId", "apig:UndeployHttpApi": "httpApiId"}

// missing is the field of something that must exist; none of an operation that makes something of its own only.
func (o operation) missing(t *testing.T) (f field, exists bool) {
	t.Helper()
	for _, f := range o.fields(t) {
		if path := failsOn[o.name()]; f.path == path || path == "" && !f.makes(o) {
			return f, true
		}
	}
	return field{}, false
}

// failsForWhatIsNot holds if a call about something that does not exist fails.
func (w *witness) failsForWhatIsNot(t *testing.T, op operation, params object) {
	t.Helper()
	f, exists := op.missing(t)
	if !exists {
		return
	}
	params = copied(t, params)
	w.suit(op, f, params)
	f.set(params, w.unknown(f.kind))
	w.fails(t, op, params)
}

func (w *witness) fails(t *testing.T, op operation, params object) answer {
	t.Helper()
	key, principal := w.caller(op)
	got, written := w.leaves(t, func() answer { return w.call(key, op, params) },
		trail{Outcome: "failed", Action: op.name(), Principal: principal, Resource: w.about(op, params)})
	require.Contains(t, []int{400, 403, 404, 409}, got.status, got.text)
	require.Contains(t, op.Extensions["x-errors"], got.code)
	require.Empty(t, slices.DeleteFunc(written, of("model_service_event"))) // tells that a change was refused
	return got
}

// does holds if the call is done, and all that it wrote is of one transaction with its row.
func (w *witness) does(t *testing.T, op operation, params object) {
	t.Helper()
	before := w.rows()
	key, principal := w.caller(op)
	got, _ := w.leaves(t, func() answer { return w.call(key, op, params) },
		trail{Outcome: "done", Action: op.name(), Principal: principal, Resource: w.about(op, params)})
	require.Equal(t, 200, got.status, got.text)
	if op.OperationID == "ImportHttpApi" { // works under a savepoint, and what it writes is numbered by that
		return
	}
	audited := query[struct{ Tx string }](w.installation, `SELECT xmin::text AS tx FROM audit_event WHERE request_id = $1`, got.requestID)
	for _, row := range query[struct{ Tx, Row string }](w.installation, w.dump) {
		if len(without([]string{row.Row}, before)) > 0 {
			require.Equal(t, audited[0].Tx, row.Tx, row.Row)
		}
	}
}

// repeats holds if the call with the same ClientToken is not done again, and one for something else with it is refused;
// if there is no ClientToken, and the call makes something, then if the name is taken.
func (w *witness) repeats(t *testing.T, op operation, params object) {
	t.Helper()
	key, principal := w.caller(op)
	token, takes := op.takesToken()
	f, failed := op.missing(t)
	switch {
	case takes:
		got, written := w.leaves(t, func() answer { return w.call(key, op, params) },
			trail{Outcome: "repeated", Action: op.name(), Principal: principal, Resource: w.about(op, params)})
		require.Equal(t, 200, got.status, got.text)
		require.Empty(t, written)
		params = copied(t, params)
		f.set(params, w.unknown(f.kind))
		require.Contains(t, params, token)
		require.Equal(t, "IdempotentParameterMismatch", w.fails(t, op, params).code)
	case !failed:
		if op.name() == "gpdb:CreateModelOperatorApiKey" {
			w.exec(`INSERT INTO operator_key (account_id, description, key_sealed, key_hash)
				SELECT $1, '', '', n::text::bytea FROM generate_series(1, 50) n`, w.id)
		}
		w.fails(t, op, params)
		w.exec(`DELETE FROM operator_key WHERE description = ''`)
	}
}
