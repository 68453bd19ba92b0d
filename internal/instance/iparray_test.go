package instance_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
)

func change(t *testing.T, db *pgtest.DB, c instance.IPChange) error {
	t.Helper()
	if err := c.Complete(); err != nil {
		return err
	}
	return pgx.BeginFunc(t.Context(), db.Control, func(tx pgx.Tx) error { return instance.ChangeIPArray(t.Context(), tx, c) })
}

func arrays(t *testing.T, instances *instance.Instances, id, name string) map[string]string {
	t.Helper()
	found, err := instances.IPArrays(t.Context(), account, id, name)
	require.NoError(t, err)
	lists := map[string]string{}
	for _, a := range found {
		lists[a.Name] = a.List
	}
	return lists
}

func TestAnIPArrayIsCoveredAppendedToAndDeletedFrom(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	id, service := made(t, instances, 0), ids.New(ids.ModelService)
	for _, step := range []struct {
		array string
		mode  instance.IPMode
		list  string
		want  map[string]string // or:
		says  string
	}{
		{"", instance.Append, "10.0.0.0/8", map[string]string{"default": "127.0.0.1,10.0.0.0/8"}, ""},
		{"Default", instance.Append, "10.0.0.0/8, 192.0.2.7", map[string]string{"default": "127.0.0.1,10.0.0.0/8,192.0.2.7"}, ""},
		{"default", instance.Delete, "192.0.2.7/32,127.0.0.1", map[string]string{"default": "10.0.0.0/8"}, ""},
		{"default", instance.Delete, "10.0.0.1", nil, "InvalidSecurityIPList.NotFound"},
		{service, instance.Append, "192.0.2.7", map[string]string{"default": "10.0.0.0/8", service: "10.0.0.0/8,192.0.2.7"}, ""},
		{service, instance.Delete, "10.0.0.0/8,192.0.2.7", map[string]string{"default": "10.0.0.0/8", service: "127.0.0.1"}, ""},
		{"default", instance.Delete, "10.0.0.0/8", map[string]string{"default": "127.0.0.1", service: "127.0.0.1"}, ""},
		{"office", instance.Delete, "10.0.0.0/8", nil, "NotFound"},
		{"office", instance.Cover, "2001:db8::/32", map[string]string{"default": "127.0.0.1", service: "127.0.0.1", "office": "2001:db8::/32"}, ""},
		{"office", instance.Delete, "2001:db8::/32", map[string]string{"default": "127.0.0.1", service: "127.0.0.1"}, ""},
		{"default", instance.Cover, "", nil, "InvalidSecurityIPList.Malformed"},
		{"default", instance.Cover, "10.0.0.300", nil, "InvalidSecurityIPList.Malformed"},
		{"default", instance.Append, "10.0.0.1,10.0.0.1/32", nil, "InvalidSecurityIPList.Duplicate"},
		{"default", instance.Cover, strings.Repeat("10.0.0.1,", 1000) + "10.0.0.1", nil, "InvalidSecurityIPListLength.Malformed"},
		{"1st", instance.Cover, "10.0.0.1", nil, "DBInstanceIPArrayName"},
	} {
		before := arrays(t, instances, id, "")
		err := change(t, db, instance.IPChange{AccountID: account, DBInstanceID: id, Array: step.array, Mode: step.mode, List: step.list})
		if step.says != "" {
			require.ErrorContains(t, err, step.says)
			require.Equal(t, before, arrays(t, instances, id, ""))
			continue
		}
		require.NoError(t, err)
		require.Equal(t, step.want, arrays(t, instances, id, ""))
	}
	require.Equal(t, map[string]string{"default": "127.0.0.1"}, arrays(t, instances, id, "Default"))
	require.Empty(t, arrays(t, instances, id, "nope"))
	require.ErrorIs(t, change(t, db, instance.IPChange{AccountID: neighbour, DBInstanceID: id, List: "10.0.0.1"}), instance.ErrNotFound)
	_, err := instances.IPArrays(t.Context(), neighbour, id, "")
	require.ErrorIs(t, err, instance.ErrNotFound)
}

func TestIPArraysHaveLimits(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	id := made(t, instances, 0)
	var many []string
	for n := range 999 {
		many = append(many, fmt.Sprintf("10.0.%d.%d", n/250, n%250))
	}
	add := func(array string, mode instance.IPMode, list string) error {
		return change(t, db, instance.IPChange{AccountID: account, DBInstanceID: id, Array: array, Mode: mode, List: list})
	}
	require.NoError(t, add("", instance.Append, strings.Join(many, ",")), "with 127.0.0.1 a thousand")
	require.ErrorIs(t, add("", instance.Append, "192.0.2.1"), instance.ErrIPListLength)
	for n := range 49 {
		require.NoError(t, add(fmt.Sprintf("array_%d", n), instance.Cover, "10.0.0.1"))
	}
	require.ErrorIs(t, add("one_more", instance.Cover, "10.0.0.1"), instance.ErrIPArrayQuota)
	require.NoError(t, add("array_7", instance.Append, "10.0.0.2"))
	require.NoError(t, add(ids.New(ids.ModelService), instance.Cover, "10.0.0.2"), "a model service's own does not count")
}

func TestAnAttributeStays(t *testing.T) {
	t.Parallel()
	instances, db := newInstances(t)
	id, hidden := made(t, instances, 0), "hidden"
	require.NoError(t, change(t, db, instance.IPChange{AccountID: account, DBInstanceID: id, Array: "dts", Attribute: &hidden, List: "10.0.0.1"}))
	require.NoError(t, change(t, db, instance.IPChange{AccountID: account, DBInstanceID: id, Array: "dts", Mode: instance.Append, List: "10.0.0.2"}))
	found, err := instances.IPArrays(t.Context(), account, id, "dts")
	require.NoError(t, err)
	require.Equal(t, []instance.IPArray{{Name: "dts", Attribute: "hidden", List: "10.0.0.1,10.0.0.2"}}, found)
}
