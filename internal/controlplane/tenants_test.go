package controlplane

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever may do everything in an account learns nothing about another and changes nothing of it: whatever identifies
// something of the other one answers as what identifies nothing.
func TestAStrangersThingAnswersAsNoneInEveryOperation(t *testing.T) {
	t.Parallel()
	i := install(t)
	stranger := i.open(accountA, "alpha")
	stranger.furnish()
	theirs := slices.DeleteFunc(i.rows(), of("publication")) // one for all
	a := i.open(accountB, "bravo")
	a.furnish()
	asked := map[int]int{}
	ask := func(op operation, f field) {
		t.Run(op.name()+" with "+f.String(), func(t *testing.T) {
			before := i.rows()
			got := a.asks(op, f, stranger.things[f.kind])
			after := i.rows()
			require.Empty(t, without(theirs, after), "it changed what is another's")
			if got.status != 200 {
				left := append(without(before, after), without(after, before)...)
				left = slices.DeleteFunc(left, of("model_service_event")) // tells that a change was refused
				require.Empty(t, left, "it was refused and changed something")
			}
			for kind, thing := range stranger.things {
				if text, ok := thing.(string); ok && !strings.Contains(fmt.Sprint(stranger.things[f.kind]), text) && kind != "account" {
					require.NotContains(t, got.text, text, "it tells another's %s", kind)
				}
			}
			none := stranger.unknown(f.kind)
			want := a.asks(op, f, none)
			require.Equal(t, want.told(none), got.told(stranger.things[f.kind]))
			require.NotContains(t, []string{"MissingParameter", "InvalidParameter"}, got.code, got.text)
			if !op.mutates() && op.OperationID != "GetModelServiceLogs" { // which waits for a worker
				own := a.asks(op, f, a.things[f.kind])
				require.Equal(t, 200, own.status, "the same for one of its own: %s", own.text)
			}
			asked[got.status]++
		})
	}
	for _, makes := range []bool{false, true} { // at last what takes a name that another has, and has it from then on
		for _, op := range everyOperation(t) {
			for _, f := range op.fields(t) {
				if f.makes(op) == makes {
					ask(op, f)
				}
			}
		}
	}
	t.Logf("answers by status: %v", asked)
	require.Greater(t, asked[404], 100)
}

// of reports whether a row is of a table.
func of(table string) func(row string) bool {
	return func(row string) bool { return strings.HasPrefix(row, table+": ") }
}

// without are the rows that are not among others; both are in order.
func without(rows, others []string) (left []string) {
	for _, row := range rows {
		if _, found := slices.BinarySearch(others, row); !found {
			left = append(left, row)
		}
	}
	return left
}

// asks calls the operation with a value in one field, and with what the account has in all others.
func (a *account) asks(op operation, f field, value any) answer {
	a.t.Helper()
	params := a.fit(op)
	a.suit(op, f, params)
	f.set(params, value)
	key := a.root
	if op.name() == "sts:AssumeRole" { // which no account does itself
		key = a.user
	}
	return a.call(key, op, params)
}

// differs is what differs from one call to the next: ids, addresses, times, numbers and sealed texts.
var differs = regexp.MustCompile(`[a-z]+-[0-9a-v]{20}|[0-9A-F]{8}-[0-9A-F-]{27}|20[0-9-]{8}T[0-9:.]+Z|[A-Za-z0-9+/=_-]{60,}|` +
	`127\.0\.0\.1:[0-9]+|\b[0-9]{13,18}\b|"revision":[0-9]+`)

// told is what an answer says, but for what was asked for and for what differs anyway.
func (a answer) told(asked any) string {
	text := a.text
	if name, ok := asked.(string); ok {
		text = strings.ReplaceAll(text, name, "SOME")
	} else {
		text = strings.ReplaceAll(text, fmt.Sprint(" key ", asked), " key SOME")
	}
	return fmt.Sprint(a.status, " ", differs.ReplaceAllString(text, "SOME"))
}
