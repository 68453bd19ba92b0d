package modelservice

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/snapshot"
)

func rotateKeyOf(token string) idempotency.Key {
	k := key(token)
	k.Action = "gpdb:RotateModelServiceApiKey"
	return k
}

func TestAKeyIsReplacedOnceAndPublished(t *testing.T) {
	t.Parallel()
	w, _, _, id := running(t, 1, 1)
	published := func() []byte {
		require.NoError(t, w.services.Publish(t.Context(), id))
		var body []byte
		require.NoError(t, w.Owner.QueryRow(t.Context(), `SELECT body FROM published_item WHERE kind = 'model_service' AND id = $1`, id).Scan(&body))
		item, err := snapshot.DecodeModelService(body)
		require.NoError(t, err)
		return item.KeyHash
	}
	old := w.describe(t, id).APIKey.Reveal()
	require.Equal(t, snapshot.HashKey(old), published())
	for range 2 { // the second repeats the first
		require.NoError(t, w.services.RotateKey(t.Context(), rotateKeyOf("t"), account, w.instance, id))
	}
	fresh := w.describe(t, id).APIKey.Reveal()
	require.NotEqual(t, old, fresh)
	require.Equal(t, snapshot.HashKey(fresh), published())
	require.NoError(t, w.services.RotateKey(t.Context(), rotateKeyOf(""), account, w.instance, id))
	require.NotEqual(t, fresh, w.describe(t, id).APIKey.Reveal(), "a call without a token is no repetition")
	var rows, events int
	require.NoError(t, w.Owner.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM audit_event WHERE resource_id = $1 AND outcome = 'done'),
			(SELECT count(*) FROM model_service_event WHERE model_service_id = $1 AND message LIKE 'Its key was replaced%')`, id).
		Scan(&rows, &events))
	require.Equal(t, []int{3, 2}, []int{rows, events}, "and it was created")
}

func TestAKeyIsNotReplacedWhereThereIsNone(t *testing.T) {
	t.Parallel()
	w, _, _, id := running(t, 1, 1)
	require.ErrorIs(t, w.services.RotateKey(t.Context(), rotateKeyOf(""), account, w.instance, "ms-00000000000000000000"), ErrNotFound)
	require.ErrorIs(t, w.services.RotateKey(t.Context(), rotateKeyOf(""), "1000000000000002", w.instance, id), instance.ErrNotFound)
	require.NoError(t, w.services.Delete(t.Context(), account, w.instance, id))
	require.ErrorIs(t, w.services.RotateKey(t.Context(), rotateKeyOf(""), account, w.instance, id), ErrStatus)
}
