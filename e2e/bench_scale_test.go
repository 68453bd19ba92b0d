package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	scaleServices = 1000
	scaleHosts    = 500
	scaleCalls    = 100
	listMedian    = 20 * time.Millisecond
)

// benchmarkLists lists what a large installation has: 1,000 services of two replicas in one DB instance, on 2,000 AI
// nodes of 500 hosts, beside 100 other instances.
func benchmarkLists(b *testing.B) {
	r := newRig(b)
	r.exec(`INSERT INTO host (name, engine_addr, started_at, heartbeat_at)
		SELECT 'gpu-' || n, '127.0.0.1', now(), now() + interval '1 hour' FROM generate_series(0, $1 - 1) n`, scaleHosts)
	r.exec(`INSERT INTO db_instance (id, account_id, region_id, resource_group_id)
		SELECT 'gp-other-' || n, $1, $2, 'rg-default' FROM generate_series(1, 100) n`, rootAccount, region)
	nodes := r.nodes(2 * scaleServices)
	r.exec(`UPDATE ai_node SET host = 'gpu-' || at % $1
		FROM (SELECT name, row_number() OVER (ORDER BY name) AS at FROM ai_node) numbered WHERE numbered.name = ai_node.name`, scaleHosts)
	created := r.measure(8, scaleServices, func(calls int) job { return r.preparePairs(nodes, calls) })
	r.exec(`UPDATE replica SET status = 'active'`)
	r.exec(`UPDATE model_service SET status = 'active'`)
	r.exec(`ANALYZE`)
	fmt.Printf("\n%d services of two replicas on %d AI nodes of %d hosts, made by 8 clients at %.0f calls/s; %d calls one after the other, in ms\n",
		scaleServices, len(nodes), scaleHosts, created.rate, scaleCalls)
	instance := map[string]any{"DBInstanceId": r.instance}
	for _, list := range []struct {
		action string
		params map[string]any
		items  string // what each item of the page has
		count  int
	}{
		{"ListModelServices", map[string]any{"DBInstanceId": r.instance, "PageNumber": 5, "PageSize": 100}, `"ModelServiceId":`, 100},
		{"ListModelServices", instance, `"ModelServiceId":`, 20},
		{"DescribeDBInstances", map[string]any{"RegionId": region, "PageSize": 100}, `"DBInstanceId":`, 100},
		{"ListAINodePools", instance, `"NodeName":`, len(nodes)},
	} {
		before := r.usage()
		took := r.list(list.action, list.params, list.items, list.count)
		after := r.usage()
		cpu := (after.controlPlane - before.controlPlane + after.postgres - before.postgres).Seconds() * 1000 / scaleCalls
		fmt.Printf("%-20s %4d items: median %.1f (at most %d)   p99 %.1f   CPU of control plane and Postgres %.1f\n",
			list.action, list.count, median(took), listMedian.Milliseconds(), took[len(took)*99/100], cpu)
		b.ReportMetric(median(took), fmt.Sprintf("%s-%d-ms", list.action, list.count))
		if median(took) > float64(listMedian.Milliseconds()) {
			b.Errorf("%s takes %.1f ms", list.action, median(took))
		}
	}
	b.ReportMetric(0, "ns/op")
}

// preparePairs makes ready signed creates of two replicas each.
func (r *rig) preparePairs(nodes []string, calls int) job {
	requests := make([][]byte, calls)
	for i := range requests {
		requests[i] = r.signed("CreateModelService", map[string]any{
			"DBInstanceId": r.instance, "ModelName": modelName, "AiNodes": []string{nodes[2*i], nodes[2*i+1]}, "Replicas": 2,
		})
	}
	return job{
		do: func(client, i int) error {
			_, err := r.conns[client].call(requests[i])
			return err
		},
		check: func() {},
	}
}

// list performs the calls and returns what they took, in ms and in order.
func (r *rig) list(action string, params map[string]any, items string, count int) (took []float64) {
	r.b.Helper()
	for range scaleCalls {
		request := r.signed(action, params)
		began := time.Now()
		_, err := r.conns[0].Write(request)
		require.NoError(r.b, err)
		answer, err := http.ReadResponse(r.conns[0].in, nil)
		require.NoError(r.b, err)
		body, err := io.ReadAll(answer.Body)
		took = append(took, time.Since(began).Seconds()*1000)
		require.NoError(r.b, err)
		require.NoError(r.b, answer.Body.Close())
		require.Equal(r.b, count, bytes.Count(body, []byte(items)), "%.300s", body)
	}
	slices.Sort(took)
	return took
}
