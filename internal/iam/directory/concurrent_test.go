package directory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/iam/directory"
)

// together runs do as often as said at the same time and returns how many succeeded; the others must say refusal.
func together(t *testing.T, times int, refusal error, do func(n int) error) (done int) {
	t.Helper()
	errs := make([]error, times)
	var all sync.WaitGroup
	for n := range times {
		all.Go(func() { errs[n] = do(n) })
	}
	all.Wait()
	for _, err := range errs {
		if err == nil {
			done++
			continue
		}
		require.ErrorIs(t, err, refusal)
	}
	return done
}

func TestOfManyWhoTakeANameOneGetsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		make   func(testing.TB, string) error
		exists error
	}{
		"user": {w.user, directory.ErrUserExists}, "group": {w.group, directory.ErrGroupExists},
		"role": {w.role, directory.ErrRoleExists}, "policy": {w.policy, directory.ErrPolicyExists},
	} {
		require.Equal(t, 1, together(t, 8, c.exists, func(int) error { return c.make(t, "same") }), name)
	}
	for n := range 8 {
		require.NoError(t, w.user(t, fmt.Sprint("u", n)))
	}
	free := "free"
	require.Equal(t, 1, together(t, 8, directory.ErrUserExists, func(n int) error {
		_, err := w.UpdateUser(t.Context(), account, fmt.Sprint("u", n), directory.UserChange{Name: &free})
		return err
	}), "renaming")
}

// The limits hold however many ask at the same moment.
func TestTogetherNobodyPassesALimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.one(t)
	require.Equal(t, 2, together(t, 8, directory.ErrKeyLimit, func(int) error {
		_, _, err := w.CreateKey(t.Context(), account, "one")
		return err
	}))
	require.Equal(t, 1, together(t, 8, directory.ErrKeyLimit, func(int) error {
		_, _, err := w.CreateKey(t.Context(), account, "")
		return err
	}), "beside the root key of the start")
	require.Equal(t, 4, together(t, 8, directory.ErrVersionLimit, func(int) error {
		_, err := w.version(t, "one", false)
		return err
	}))
	require.Equal(t, 8, together(t, 8, nil, func(int) error {
		_, err := w.version(t, "one", true)
		return err
	}))
	versions, err := w.Versions(t.Context(), account, directory.PolicyName{Type: directory.Custom, Name: "one"})
	require.NoError(t, err)
	require.Len(t, versions, 5)
	require.Equal(t, []int{13, 1}, []int{versions[0].Version, versions[4].Version}, "each had a number of its own")

	for n := range 14 {
		require.NoError(t, w.policy(t, fmt.Sprint("p", n)))
		require.NoError(t, w.group(t, fmt.Sprint("g", n)))
	}
	require.Equal(t, 10, together(t, 14, directory.ErrUserPolicyLimit, func(n int) error {
		return w.attach(t, directory.OfUser, "one", directory.Custom, fmt.Sprint("p", n), "")
	}))
	require.Equal(t, 10, together(t, 14, directory.ErrUserGroupLimit, func(n int) error {
		return w.AddToGroup(t.Context(), account, "one", fmt.Sprint("g", n))
	}))
	w.exec(t, `INSERT INTO ram_group (id, account_id, name) SELECT '3' || lpad(n::text, 17, '0'), $1, 'n' || n FROM generate_series(1, 280) n`, account)
	require.Equal(t, 300-280-15, together(t, 8, directory.ErrGroupLimit, func(n int) error { return w.group(t, fmt.Sprint("x", n)) }))
}

// Deleting meets what would hold the thing: one of both is refused, and nothing is left that belongs to nothing.
func TestDeletingMeetsAttaching(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 20 {
		name := fmt.Sprint("u", n)
		require.NoError(t, w.user(t, name))
		require.NoError(t, w.policy(t, name))
		var attached, deleted error
		var both sync.WaitGroup
		both.Go(func() { attached = w.attach(t, directory.OfUser, name, directory.Custom, name, "") })
		both.Go(func() {
			if n%2 == 0 {
				deleted = w.DeleteUser(t.Context(), account, name)
				return
			}
			deleted = w.DeletePolicy(t.Context(), account, name)
		})
		both.Wait()
		if attached == nil {
			require.True(t, errors.Is(deleted, directory.ErrUserHasPolicies) || errors.Is(deleted, directory.ErrPolicyOfUser), "%v", deleted)
			continue
		}
		require.NoError(t, deleted)
		require.True(t, errors.Is(attached, directory.ErrNoUser) || errors.Is(attached, directory.ErrNoPolicy), "%v", attached)
	}
}

// Whoever pages through a list sees everything that is there all the while once, in order, whatever comes and goes.
func TestPagesAreWholeWhileOthersWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var stay []string
	for n := range 40 {
		name := fmt.Sprintf("stay-%02d", n)
		stay = append(stay, name)
		for _, make := range []func(testing.TB, string) error{w.user, w.group, w.role, w.policy} {
			require.NoError(t, make(t, name))
		}
		if n < 20 {
			require.NoError(t, w.AddToGroup(t.Context(), account, name, "stay-00"))
		}
	}
	for name, c := range map[string]struct {
		want []string
		page func(directory.Page) (names []string, next string, err error)
	}{
		"users":  {stay, listing(w.Users, account, func(u directory.User) string { return u.Name })},
		"groups": {stay, listing(w.Groups, account, func(g directory.Group) string { return g.Name })},
		"roles":  {stay, listing(w.Roles, account, func(r directory.Role) string { return r.Name })},
		"members": {stay[:20], listing(func(ctx context.Context, account string, page directory.Page) ([]directory.User, string, error) {
			return w.Members(ctx, account, "stay-00", page)
		}, account, func(u directory.User) string { return u.Name })},
		"policies": {stay, listing(func(ctx context.Context, account string, page directory.Page) ([]directory.Policy, string, error) {
			return w.Policies(ctx, account, "", page)
		}, account, func(p directory.Policy) string { return p.Type + p.Name })},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		var failed error
		writing.Go(func() {
			for n := 0; ctx.Err() == nil && failed == nil; n++ {
				failed = errors.Join(w.comeAndGo(t, fmt.Sprintf("stay-%02d-guest", n%40)), w.comeAndGo(t, fmt.Sprintf("guest-%d", n)))
			}
		})
		var all, seen []string
		for marker, more := "", true; more; more = marker != "" {
			names, next, err := c.page(directory.Page{Marker: marker, Size: 3})
			require.NoError(t, err, name)
			require.LessOrEqual(t, len(names), 3)
			all, marker = append(all, names...), next
		}
		cancel()
		writing.Wait()
		require.NoError(t, failed, name)
		for _, got := range all {
			if got = strings.TrimPrefix(got, directory.Custom); strings.HasPrefix(got, "stay-") && !strings.HasSuffix(got, "guest") {
				seen = append(seen, got)
			}
		}
		require.Equal(t, c.want, seen, name)
		require.Len(t, slices.Compact(slices.Clone(all)), len(all), "%s: none twice", name)
	}
	for _, marker := range []string{"%", "not base64!", "AAAA"} {
		_, _, err := w.Users(t.Context(), account, directory.Page{Marker: marker, Size: 3})
		require.ErrorContains(t, err, "Marker", marker)
	}
}

func listing[T any](list func(context.Context, string, directory.Page) ([]T, string, error), account string, name func(T) string) func(directory.Page) ([]string, string, error) {
	return func(page directory.Page) (names []string, next string, err error) {
		items, next, err := list(context.Background(), account, page)
		for _, item := range items {
			names = append(names, name(item))
		}
		return names, next, err
	}
}

// comeAndGo makes a user, group, role and policy, puts the user into a group, and takes all away again.
func (w *world) comeAndGo(t *testing.T, name string) error {
	ctx := context.Background()
	return errors.Join(w.user(t, name), w.group(t, name), w.role(t, name), w.policy(t, name), w.AddToGroup(ctx, account, name, "stay-00"),
		w.RemoveFromGroup(ctx, account, name, "stay-00"), w.DeleteUser(ctx, account, name), w.DeleteGroup(ctx, account, name),
		w.DeleteRole(ctx, account, name), w.DeletePolicy(ctx, account, name))
}
