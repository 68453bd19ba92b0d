package e2e

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func TestOneTokenMakesOneServiceOnTwoControlPlanes(t *testing.T) {
	t.Parallel()
	s := newShed(t, pgtest.New(t))
	first, second := s.controlPlane("both"), s.controlPlane("api")
	c := newDarabonba(t, first.addr, rootKey)
	instance, nodes := newInstance(t, c, 3)
	params := createParams(instance, nodes[0])
	params["ClientToken"] = "one-token"

	const calls = 200
	answers, errs := make([]answer, calls), make([]error, calls)
	begin := make(chan struct{})
	var ready, done sync.WaitGroup
	for i := range calls {
		addr := []string{first.addr, second.addr}[i%2]
		caller := []func(*testing.T, string, credentials) caller{newGenerated, newClassic}[i/2%2](t, addr, rootKey)
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-begin
			answers[i], errs[i] = caller.call("CreateModelService", params)
		})
	}
	ready.Wait()
	close(begin)
	done.Wait()

	services, requests := map[string]bool{}, map[string]bool{}
	for i := range calls {
		require.NoError(t, errs[i])
		services[answers[i].text("ModelServiceId")] = true
		requests[answers[i].text("RequestId")] = true
	}
	require.Len(t, services, 1)
	require.Len(t, requests, calls)
	s.requireRows(map[string]int{
		`SELECT count(*) FROM model_service`:                                                             1,
		`SELECT count(*) FROM replica`:                                                                   1,
		`SELECT count(*) FROM ai_node WHERE model_service_id IS NOT NULL`:                                1,
		`SELECT count(*) FROM audit_event WHERE outcome = 'done' AND action = 'gpdb:CreateModelService'`: 1,
		`SELECT count(*) FROM audit_event WHERE outcome = 'repeated'`:                                    calls - 1,
	})

	params["Description"] = "other"
	_, err := c.call("CreateModelService", params)
	refused(t, err, 400, "IdempotentParameterMismatch")

	// A refusal does not burn the token, and a token survives a restart.
	wrong := createParams(instance, nodes[0])
	wrong["ClientToken"] = "burnt?"
	_, err = c.call("CreateModelService", wrong)
	refused(t, err, 409, "OperationDenied.AiNodeBound")
	wrong["AiNodes"] = `["` + nodes[1] + `"]`
	made, err := c.call("CreateModelService", wrong)
	require.NoError(t, err)
	first.stop()
	again := s.controlPlane("both")
	repeated, err := newDarabonba(t, again.addr, rootKey).call("CreateModelService", wrong)
	require.NoError(t, err)
	require.Equal(t, made.text("ModelServiceId"), repeated.text("ModelServiceId"))
}

func (s *shed) requireRows(counts map[string]int) {
	s.t.Helper()
	for query, want := range counts {
		var got int
		require.NoError(s.t, s.db.Owner.QueryRow(s.t.Context(), query).Scan(&got))
		require.Equal(s.t, want, got, query)
	}
}
