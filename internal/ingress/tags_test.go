package ingress_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/resource"
)

func TestAGatewayIsMadeShownAndFoundWithItsTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tags := []resource.Tag{{Key: "stage", Value: "live"}, {Key: "team", Value: "search"}}
	g, err := w.ingress.CreateGateway(t.Context(), account, ingress.GatewaySpec{Name: "tagged", Tags: []resource.Tag{tags[1], tags[0]}})
	require.NoError(t, err)
	require.Equal(t, tags, g.Tags)
	plain := w.gateway(t, "plain")
	require.Empty(t, plain.Tags)

	for _, c := range []struct {
		tags []resource.Tag
		want []string
	}{
		{nil, []string{g.ID, plain.ID}},
		{[]resource.Tag{{Key: "team"}}, []string{g.ID}},
		{tags, []string{g.ID}},
		{[]resource.Tag{{Key: "team", Value: "ads"}}, nil},
	} {
		found, total, err := w.ingress.ListGateways(t.Context(), account, ingress.GatewayFilter{Tags: c.tags, Page: everything})
		require.NoError(t, err)
		require.Equal(t, len(c.want), total)
		var ids []string
		for _, one := range found {
			ids = append(ids, one.ID)
		}
		require.Equal(t, c.want, ids)
	}

	before := w.rows(t)
	_, err = w.ingress.CreateGateway(t.Context(), account, ingress.GatewaySpec{Name: "bad", Tags: []resource.Tag{{Key: "acs:x"}}})
	require.ErrorContains(t, err, "tag.1.key")
	require.Equal(t, before, w.rows(t))
}
