package resource_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/ids"
)

func TestFactsOfEveryKindAreItsGroupAndItsTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	instance := ids.New(ids.DBInstance)
	w.exec(t, `INSERT INTO db_instance (id, account_id, region_id, resource_group_id) VALUES ($1, $2, 'cn-hangzhou', 'rg-old')`, instance, account)
	w.exec(t, `INSERT INTO db_instance_tag (db_instance_id, key, value) VALUES ($1, 'team', 'search')`, instance)
	w.ids["DBInstance"] = instance
	for _, kind := range kinds {
		w.exec(t, `INSERT INTO resource_tag (resource_id, key, value) VALUES ($1, 'team', 'search')`, w.ids[kind.Name])
	}
	for name, id := range w.ids {
		want := access.Facts{ResourceGroupID: "rg-old", Tags: map[string]string{"team": "search"}}
		if name == "Consumer" || name == "ConsumerGroup" {
			want.ResourceGroupID = ""
		}
		facts, err := w.resources.Facts(t.Context(), account, id)
		require.NoError(t, err, name)
		require.Equal(t, want, facts, name)

		facts, err = w.resources.Facts(t.Context(), stranger, id)
		require.NoError(t, err, name)
		require.Equal(t, access.Facts{}, facts, "another account's %s", name)
	}
	for _, id := range []string{"", "gw-1", ids.New(ids.Gateway), ids.New(ids.DBInstance), ids.New(ids.Replica), "x'; --"} {
		facts, err := w.resources.Facts(t.Context(), account, id)
		require.NoError(t, err, id)
		require.Equal(t, access.Facts{}, facts, id)
	}
}
