package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const (
	workRounds = 25
	workWindow = 150 * time.Millisecond
	workFloor  = 1.8 // times the work of the ReverseProxy
	workGate   = 0.8 // of the floor
)

// BenchmarkGatewayWork judges how many requests of 1 KB a second of the processor is enough for, beside the bare ReverseProxy,
// in many short rounds. Whatever else the machine does makes a round dearer and never cheaper, by caches that it takes away:
// of each side the cheapest tenth of the rounds counts. What is too dear is measured again with other processes before it
// counts.
func BenchmarkGatewayWork(b *testing.B) {
	r := newBenchRig(b)
	var dear []string
	for sitting := range benchProcesses {
		for _, side := range []*target{r.gateway, r.service, r.proxy} {
			side.turn(sitting)
		}
		if dear = r.dearWork(); len(dear) == 0 {
			break
		}
	}
	for _, what := range dear {
		b.Errorf("a request to %s costs too much", what)
	}
	b.ReportMetric(0, "ns/op")
}

// dearWork compares once, and returns what cost too much.
func (r *benchRig) dearWork() (dear []string) {
	sides := []*target{r.gateway, r.service, r.proxy}
	costs := make([][]float64, len(sides))
	for range workRounds {
		for i, on := range sides {
			l := r.load(on, 1<<10, 64)
			l.Warm, l.For = workWindow/4, workWindow
			s := put(r.b, on.process, l)
			costs[i] = append(costs[i], float64(s.Work.Nanoseconds())/float64(s.Answers))
		}
	}
	for i, what := range []string{"a Model API", "a model service"} {
		ratio := cheapest(costs[2]) / cheapest(costs[i])
		fmt.Printf("1 KB to %s: %.1f µs of CPU, the ReverseProxy %.1f µs: × %.2f, at least %.2f\n", what, cheapest(costs[i])/1e3,
			cheapest(costs[2])/1e3, ratio, workGate*workFloor)
		if ratio < workGate*workFloor {
			dear = append(dear, what)
		}
	}
	return dear
}

// cheapest is what the cheapest tenth costs at most.
func cheapest(costs []float64) float64 { return slices.Sorted(slices.Values(costs))[len(costs)/10] }

// workOf is the processor time of a process's threads, in nanoseconds, and how often one began to run. Threads that have
// ended are not in it.
func workOf(pid int) (all time.Duration, switches int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		var ran, waited, times int
		_, _ = fmt.Sscan(string(text), &ran, &waited, &times)
		all, switches = all+time.Duration(ran), switches+times
	}
	return all, switches
}
