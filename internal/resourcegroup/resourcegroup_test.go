package resourcegroup_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/postgres/pgtest"
	"github.com/engineshed/engineshed/internal/resourcegroup"
)

const account, neighbour = "1000000000000001", "1000000000000002"

// world is two accounts with nothing but their default groups.
type world struct {
	*pgtest.DB
	*resourcegroup.Groups
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.New(t)
	w := &world{db, resourcegroup.New(db.Control, "db_instance")}
	w.exec(t, `INSERT INTO account (id, name) VALUES ($1, 'acme'), ($2, 'globex')`, account, neighbour)
	return w
}

func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := w.Owner.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (w *world) group(t *testing.T, name string) resourcegroup.Group {
	t.Helper()
	group, err := w.Create(t.Context(), account, name, name+" shown")
	require.NoError(t, err)
	return group
}

func (w *world) epoch(t *testing.T) (epoch int64) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT policy_epoch FROM account WHERE id = $1`, account).Scan(&epoch))
	return epoch
}

// instance puts an instance into a group, as its owner does it.
func (w *world) instance(t *testing.T, groupID string) error {
	return pgx.BeginFunc(t.Context(), w.Control, func(tx pgx.Tx) error {
		if err := resourcegroup.Lock(t.Context(), tx, account, groupID); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `
			INSERT INTO db_instance (id, account_id, region_id, description, resource_group_id) VALUES ($1, $2, 'cn-hangzhou', '', $3)`,
			ids.New(ids.DBInstance), account, groupID)
		return err
	})
}

func TestAGroupIsMadeRenamedAndDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made, before := w.group(t, "search"), w.epoch(t)
	got, err := w.Get(t.Context(), account, made.ID)
	require.NoError(t, err)
	require.Equal(t, made, got)
	renamed, err := w.Rename(t.Context(), account, made.ID, "Search and more")
	require.NoError(t, err)
	require.Equal(t, []string{made.ID, "search", "Search and more"}, []string{renamed.ID, renamed.Name, renamed.DisplayName})
	deleted, err := w.Delete(t.Context(), account, made.ID)
	require.NoError(t, err)
	require.Equal(t, renamed, deleted)
	require.Equal(t, before+2, w.epoch(t), "a change is in force at the next call")
	for _, id := range []string{made.ID, "rg-00000000000000000000", ""} {
		_, err = w.Get(t.Context(), account, id)
		require.ErrorIs(t, err, resourcegroup.ErrMissing)
		_, err = w.Rename(t.Context(), account, id, "x")
		require.ErrorIs(t, err, resourcegroup.ErrMissing)
		_, err = w.Delete(t.Context(), account, id)
		require.ErrorIs(t, err, resourcegroup.ErrMissing)
	}
	require.Equal(t, before+2, w.epoch(t))
}

func TestAnotherAccountsGroupIsAsOneThatNeverWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.group(t, "search").ID
	_, err := w.Get(t.Context(), neighbour, id)
	require.ErrorIs(t, err, resourcegroup.ErrMissing)
	_, err = w.Rename(t.Context(), neighbour, id, "x")
	require.ErrorIs(t, err, resourcegroup.ErrMissing)
	_, err = w.Delete(t.Context(), neighbour, id)
	require.ErrorIs(t, err, resourcegroup.ErrMissing)
	_, err = w.Create(t.Context(), neighbour, "search", "of the neighbour")
	require.NoError(t, err, "each account has names of its own")
	require.ErrorIs(t, pgx.BeginFunc(t.Context(), w.Control, func(tx pgx.Tx) error {
		return resourcegroup.Lock(t.Context(), tx, neighbour, id)
	}), resourcegroup.ErrNotFound)
}

func TestTheDefaultGroupIsThereAndStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group, err := w.Get(t.Context(), account, resourcegroup.Default)
	require.NoError(t, err)
	require.Equal(t, []string{"rg-default", "default"}, []string{group.ID, group.Name})
	_, err = w.Rename(t.Context(), account, resourcegroup.Default, "x")
	require.ErrorIs(t, err, resourcegroup.ErrDefault)
	_, err = w.Delete(t.Context(), account, resourcegroup.Default)
	require.ErrorIs(t, err, resourcegroup.ErrDefault)
	for _, name := range []string{"default", "DEFAULT"} {
		_, err = w.Create(t.Context(), account, name, "x")
		require.ErrorIs(t, err, resourcegroup.ErrExists)
	}
	require.NoError(t, w.instance(t, resourcegroup.Default))
}

// A hundred groups fit, however many are asked for at once, and of those who ask for one name one gets it.
func TestAHundredGroupsFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	together := func(times int, name func(int) string, refusal error) (made int) {
		errs := make([]error, times)
		var all sync.WaitGroup
		for n := range times {
			all.Go(func() { _, errs[n] = w.Create(t.Context(), account, name(n), "x") })
		}
		all.Wait()
		for _, err := range errs {
			if err == nil {
				made++
				continue
			}
			require.ErrorIs(t, err, refusal)
		}
		return made
	}
	require.Equal(t, 1, together(8, func(int) string { return "same" }, resourcegroup.ErrExists))
	w.group(t, "Same")
	w.exec(t, `INSERT INTO resource_group (id, account_id, name, display_name)
		SELECT 'rg-' || lpad(n::text, 20, '0'), $1, 'n' || n, '' FROM generate_series(1, 95) n`, account)
	require.Equal(t, 3, together(8, func(n int) string { return fmt.Sprint("g", n) }, resourcegroup.ErrLimit))
	_, err := w.Create(t.Context(), account, "one-more", "x")
	require.ErrorContains(t, err, "100")
	_, err = w.Create(t.Context(), neighbour, "one-more", "x")
	require.NoError(t, err)
}

func TestAGroupWithResourcesStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, empty := w.group(t, "search").ID, w.group(t, "empty").ID
	require.NoError(t, w.instance(t, id))
	_, err := w.Delete(t.Context(), account, id)
	require.ErrorIs(t, err, resourcegroup.ErrResources)
	_, err = w.Delete(t.Context(), account, empty)
	require.NoError(t, err)
	require.ErrorIs(t, w.instance(t, empty), resourcegroup.ErrNotFound)
	w.exec(t, `UPDATE db_instance SET resource_group_id = 'rg-default'`)
	_, err = w.Delete(t.Context(), account, id)
	require.NoError(t, err)
}

// A resource never is in a group that is gone: whoever comes second is refused.
func TestDeletingMeetsAResourceThatComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 20 {
		id := w.group(t, fmt.Sprint("g", n)).ID
		var put, deleted error
		var both sync.WaitGroup
		both.Go(func() { put = w.instance(t, id) })
		both.Go(func() { _, deleted = w.Delete(t.Context(), account, id) })
		both.Wait()
		if put == nil {
			require.ErrorIs(t, deleted, resourcegroup.ErrResources)
			continue
		}
		require.NoError(t, deleted)
		require.ErrorIs(t, put, resourcegroup.ErrNotFound)
	}
	var lost int
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT count(*) FROM db_instance i WHERE NOT EXISTS (SELECT FROM resource_group g WHERE g.id = i.resource_group_id)`).Scan(&lost))
	require.Zero(t, lost)
}

func TestGroupsAreListedInPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := []string{"default"}
	for n := range 7 {
		want = append(want, w.group(t, fmt.Sprint("g", n)).Name)
	}
	var names []string
	for number := 1; ; number++ {
		page, total, err := w.List(t.Context(), resourcegroup.Filter{AccountID: account, PageNumber: number, PageSize: 3})
		require.NoError(t, err)
		require.Equal(t, len(want), total)
		if len(page) == 0 {
			break
		}
		require.LessOrEqual(t, len(page), 3)
		for _, group := range page {
			names = append(names, group.Name)
		}
	}
	require.Equal(t, want, names)
	two := w.group(t, "percent%")
	for _, c := range []struct {
		filter resourcegroup.Filter
		want   int
	}{
		{resourcegroup.Filter{Name: "g3"}, 1},
		{resourcegroup.Filter{Name: "G3"}, 0},
		{resourcegroup.Filter{DisplayName: "3 sho"}, 1},
		{resourcegroup.Filter{DisplayName: "%"}, 1},
		{resourcegroup.Filter{DisplayName: "_"}, 0},
		{resourcegroup.Filter{IDs: []string{two.ID, resourcegroup.Default, "rg-00000000000000000000"}}, 2},
		{resourcegroup.Filter{IDs: []string{}}, 0},
	} {
		c.filter.AccountID, c.filter.PageNumber, c.filter.PageSize = account, 1, 10
		page, total, err := w.List(t.Context(), c.filter)
		require.NoError(t, err)
		require.Equal(t, []int{c.want, c.want}, []int{total, len(page)}, "%+v", c.filter)
	}
	page, total, err := w.List(t.Context(), resourcegroup.Filter{AccountID: neighbour, PageNumber: 1, PageSize: 10})
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{total, len(page)})
}

// What policies say of a group goes with it, and nothing else does.
func TestAttachmentsGoWithTheirGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone, stays := w.group(t, "gone").ID, w.group(t, "stays").ID
	w.exec(t, `INSERT INTO ram_user (id, account_id, name, source) VALUES ('200000000000000001', $1, 'alice', 'api')`, account)
	w.exec(t, `WITH made AS (INSERT INTO policy (account_id, name, default_version, source) VALUES ($1, 'p', 1, 'api') RETURNING id)
		INSERT INTO policy_attachment (policy_id, user_id, resource_group_id, source)
		SELECT id, '200000000000000001', scope, 'api' FROM made, unnest(ARRAY['', 'rg-default', $2, $3]) scope`, account, gone, stays)
	_, err := w.Delete(t.Context(), account, gone)
	require.NoError(t, err)
	rows, _ := w.Owner.Query(t.Context(), `SELECT resource_group_id FROM policy_attachment`)
	scopes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"", "rg-default", stays}, scopes)
}

// What a caller may read of a refusal names the case.
func TestRefusalsNameTheirCase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.group(t, "search")
	_, err := w.Create(t.Context(), account, "search", "x")
	require.ErrorContains(t, err, "search")
	_, err = w.Get(t.Context(), account, "rg-00000000000000000000")
	require.ErrorContains(t, err, "ListResourceGroups")
	require.False(t, errors.Is(err, resourcegroup.ErrNotFound), "the product's own code, not that of a resource's parameter")
}
