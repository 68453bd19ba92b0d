package access_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
)

// cpu is the processor time that this process has taken.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// manyStatements is a principal's document: the last statement alone is about the last instance.
func manyStatements(n int, condition string) []string {
	statements := make([]string, n)
	for i := range statements {
		statements[i] = fmt.Sprintf(`{"Effect":"Allow","Action":["gpdb:Describe*","gpdb:Create*"],"Resource":%q%s}`,
			instance(fmt.Sprintf("gp-%020d", i))[1], condition)
	}
	var documents []string
	for len(statements) > 0 { // a document has room for about twenty
		some := min(10, len(statements))
		documents = append(documents, document(statements[:some]...))
		statements = statements[some:]
	}
	return documents
}

// BenchmarkAuthorize decides for a principal whose last statement is the one that allows, so that each is looked at. It
// reports processor time besides: on a machine that is shared, the other figure says little.
func BenchmarkAuthorize(b *testing.B) {
	const office = `,"Condition":{"IpAddress":{"acs:SourceIp":"203.0.113.0/24"},"DateLessThan":{"acs:CurrentTime":"2030-01-01T00:00:00Z"}}`
	for _, n := range []int{1, 20, 300} {
		for name, condition := range map[string]string{"": "", "WithConditions": office} {
			var policies attachments
			policies.attach(manyStatements(n, condition)...)
			a := newAuthorizer(b, &policies)
			request := access.Request{Action: "gpdb:CreateModelService", Resources: instance(fmt.Sprintf("gp-%020d", n-1))}
			b.Run(fmt.Sprintf("%dStatements%s", n, name), func(b *testing.B) {
				measure(b, func() error { return a.Require(b.Context(), ann(1), request) })
			})
			b.Run(fmt.Sprintf("%dStatements%sNewEpoch", n, name), func(b *testing.B) {
				epoch := int64(1)
				measure(b, func() error { epoch++; return a.Require(b.Context(), ann(epoch), request) })
			})
		}
	}
}

func measure(b *testing.B, do func() error) {
	b.Helper()
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		if err := do(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
