package modelservice

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/node"
	"github.com/engineshed/engineshed/internal/snapshot"
)

// active is a published service on the node, with an array of its own unless list is "".
func (w *world) active(t *testing.T, f *fakeHost, nodeName, list string) (id string) {
	t.Helper()
	spec := w.spec(nodeName)
	if list != "" {
		spec.SecurityIPList = &list
	}
	svc, err := w.services.Create(t.Context(), idempotency.Key{}, spec)
	require.NoError(t, err)
	for _, state := range []node.State{node.Starting, node.Healthy} {
		_, err := w.stepper(f).Step(t.Context(), w.replica(t, svc.ID))
		require.NoError(t, err)
		f.become(state, "")
	}
	_, err = w.stepper(f).Step(t.Context(), w.replica(t, svc.ID))
	require.NoError(t, err)
	require.NoError(t, w.services.Publish(t.Context(), svc.ID))
	return svc.ID
}

// allowed is what gateways have been told of who may call the service.
func (w *world) allowed(t *testing.T, id string) (allow []netip.Prefix) {
	t.Helper()
	var body []byte
	require.NoError(t, w.Gateway.QueryRow(t.Context(), `SELECT body FROM published_item WHERE id = $1`, id).Scan(&body))
	view, err := snapshot.DecodeModelService(body)
	require.NoError(t, err)
	return view.Allow
}

func prefixes(t *testing.T, entries ...string) []netip.Prefix {
	t.Helper()
	list, err := instance.Prefixes(entries)
	require.NoError(t, err)
	return list
}

func TestAChangedArrayIsPublishedForTheServicesItDecidesFor(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	follows, own := w.active(t, f, w.nodes[0], ""), w.active(t, f, w.nodes[1], "10.0.0.1")
	modify := func(array string, mode instance.IPMode, list string) error {
		return w.services.ModifyIPs(t.Context(), instance.IPChange{
			AccountID: account, DBInstanceID: w.instance, Array: array, Mode: mode, List: list,
		})
	}
	require.NoError(t, modify("", instance.Append, "192.0.2.0/24"))
	require.Equal(t, prefixes(t, "127.0.0.1", "192.0.2.0/24"), w.allowed(t, follows))
	require.Equal(t, prefixes(t, "10.0.0.1"), w.allowed(t, own))
	require.NoError(t, modify(own, instance.Append, "10.0.0.2"))
	require.Equal(t, prefixes(t, "10.0.0.1", "10.0.0.2"), w.allowed(t, own))
	require.NoError(t, modify("office", instance.Cover, "0.0.0.0/0"), "another array decides nothing")
	require.Equal(t, prefixes(t, "127.0.0.1", "192.0.2.0/24"), w.allowed(t, follows))
	require.NoError(t, modify(follows, instance.Delete, "127.0.0.1"), "it begins as the default array")
	require.Equal(t, prefixes(t, "192.0.2.0/24"), w.allowed(t, follows))
	require.NoError(t, modify("default", instance.Cover, "127.0.0.1"))
	require.Equal(t, prefixes(t, "192.0.2.0/24"), w.allowed(t, follows), "its own array decides alone")
	require.Equal(t, "192.0.2.0/24", w.describe(t, follows).SecurityIPList)

	require.ErrorIs(t, modify(ids.New(ids.ModelService), instance.Cover, "10.0.0.1"), ErrNotFound)
	require.ErrorIs(t, modify("ms-not-an-id", instance.Cover, "10.0.0.1"), ErrNotFound)
	require.NoError(t, w.services.Delete(t.Context(), account, w.instance, own))
	require.ErrorIs(t, modify(own, instance.Cover, "10.0.0.1"), ErrStatus)
	require.NoError(t, modify("", instance.Append, "192.0.2.0/24"))
	require.Equal(t, "127.0.0.1,192.0.2.0/24", w.array(t, "default"))
	require.Equal(t, "10.0.0.1,10.0.0.2", w.array(t, own), "what was refused has changed nothing")
}

func (w *world) array(t *testing.T, name string) (list string) {
	t.Helper()
	require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT array_to_string(entries, ',') FROM ip_array WHERE name = $1`, name).Scan(&list))
	return list
}

func TestChangesAtTheSameTimeAreAllPublished(t *testing.T) {
	t.Parallel()
	w, f := newWorld(t), &fakeHost{engines: map[string]node.Observation{}}
	services := []string{w.active(t, f, w.nodes[0], ""), w.active(t, f, w.nodes[1], "")}
	results := make([]error, 20)
	var wait sync.WaitGroup
	for i := range results {
		wait.Go(func() {
			results[i] = w.services.ModifyIPs(t.Context(), instance.IPChange{
				AccountID: account, DBInstanceID: w.instance, Mode: instance.Append, List: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String(),
			})
		})
		wait.Go(func() { _ = w.services.Publish(t.Context(), services[i%2]) })
	}
	wait.Wait()
	for _, err := range results {
		require.NoError(t, err)
	}
	for _, id := range services {
		require.Len(t, w.allowed(t, id), 21)
	}
}
