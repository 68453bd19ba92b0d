package iam_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
)

// What a decision may cost: processor time for a principal that is known to the process; for one that it has never seen,
// the time until the answer, the query among it. Beside a hundred thousand policies of others it costs as much as
// beside ten.
const (
	most20     = 30 * time.Microsecond
	most300    = 300 * time.Microsecond
	mostCold   = 3 * time.Millisecond
	mostDrift  = 1.2
	manyOthers = 100_000
	rounds     = 15
)

// trial is one thing that is measured, in one account.
type trial struct {
	name      string
	of        crowd
	authorize func(testing.TB) *access.Authorizer // for each decision
	decisions int                                 // of a round
	took      func(testing.TB) time.Duration      // the clock that counts
	most      time.Duration                       // 0: any
	beside    *trial                              // the same in an account without the others
	each      []float64                           // nanoseconds of a decision, by rounds
}

// BenchmarkDecision judges what docs/performance.md promises of decisions. The rounds of all trials take turns, so that
// what else the machine does reaches all alike; medians count.
func BenchmarkDecision(b *testing.B) {
	var trials []*trial
	start := time.Now()
	wall := func(testing.TB) time.Duration { return time.Since(start) }
	for _, statements := range []int{20, 300} {
		few := newCrowd(b, statements, 10, fresh)
		many, unknown := newCrowd(b, statements, manyOthers, fresh), newCrowd(b, statements, manyOthers, never)
		small := &trial{
			name: fmt.Sprintf("%d statements, 10 others", statements), of: few, authorize: warm(b, few),
			decisions: 40_000 / statements, took: cpu, most: map[int]time.Duration{20: most20, 300: most300}[statements],
		}
		large := *small
		large.name, large.of, large.authorize, large.beside = fmt.Sprintf("%d statements, %d others", statements, manyOthers), many, warm(b, many), small
		trials = append(trials, small, &large)
		for others, c := range map[string]crowd{"10 others": few, "100000 others": many, "100000 others, no statistics": unknown} {
			trials = append(trials, &trial{
				name: fmt.Sprintf("never seen before, %d statements, %s", statements, others), of: c,
				authorize: func(t testing.TB) *access.Authorizer {
					return access.NewAuthorizer(c.store, newBox(t), slog.New(slog.DiscardHandler))
				},
				decisions: 20, took: wall, most: mostCold,
			})
		}
	}
	for b.Loop() {
		for range rounds {
			for _, t := range trials {
				t.round(b)
			}
		}
	}
	fmt.Println(table(trials)) // a benchmark's log is cut off
	for _, t := range trials {
		t.judge(b)
	}
}

// warm is an authorizer that knows the busy user.
func warm(b *testing.B, c crowd) func(testing.TB) *access.Authorizer {
	known := access.NewAuthorizer(c.store, newBox(b), slog.New(slog.DiscardHandler))
	decide(b, known, c)
	return func(testing.TB) *access.Authorizer { return known }
}

func decide(t testing.TB, authorizer *access.Authorizer, c crowd) {
	t.Helper()
	caller := c.caller
	caller.SourceIP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	decision, err := authorizer.Authorize(t.Context(), caller, c.last)
	if err != nil || !decision.Allowed {
		t.Fatal(decision, err)
	}
}

func (r *trial) round(t testing.TB) {
	authorizers := make([]*access.Authorizer, r.decisions)
	for i := range authorizers {
		authorizers[i] = r.authorize(t)
	}
	before := r.took(t)
	for _, authorizer := range authorizers {
		decide(t, authorizer, r.of)
	}
	r.each = append(r.each, float64(r.took(t)-before)/float64(r.decisions))
}

func (r *trial) judge(t testing.TB) {
	if got := time.Duration(median(r.each)); r.most > 0 && got > r.most {
		t.Errorf("%s: %s, at most %s", r.name, got, r.most)
	}
	if drift := r.drift(); r.beside != nil && drift > mostDrift {
		t.Errorf("%s: %.2f times what it costs without the others, at most %.1f", r.name, drift, mostDrift)
	}
}

// drift compares rounds that ran one after the other.
func (r *trial) drift() float64 {
	if r.beside == nil {
		return 0
	}
	ratios := make([]float64, len(r.each))
	for i := range r.each {
		ratios[i] = r.each[i] / r.beside.each[i]
	}
	return median(ratios)
}

// table is what was measured, ready for docs/performance.md.
func table(trials []*trial) string {
	var out strings.Builder
	out.WriteString("\n| | µs | promised | against 10 others |\n|---|---|---|---|\n")
	for _, t := range trials {
		promised, drift := "", ""
		if t.most > 0 {
			promised = fmt.Sprintf("%d", t.most.Microseconds())
		}
		if t.beside != nil {
			drift = fmt.Sprintf("× %.2f", t.drift())
		}
		fmt.Fprintf(&out, "| %s | %.1f (%.1f–%.1f) | %s | %s |\n", t.name, median(t.each)/1e3, slices.Min(t.each)/1e3, slices.Max(t.each)/1e3, promised, drift)
	}
	return out.String()
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// cpu is the processor time that this process has taken.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
