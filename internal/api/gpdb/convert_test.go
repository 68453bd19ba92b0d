package gpdb

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/secret"
)

func TestMask(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"":                     "****",
		"short":                "****",
		"123456789012345":      "****",
		"1234567890123456":     "****3456",
		"sk-0123456789abcWXYZ": "****WXYZ",
	} {
		require.Equal(t, want, mask(secret.New(key)), key)
	}
}

func TestFromParams(t *testing.T) {
	t.Parallel()
	got := fromParams(map[string]any{"text": "a", "flag": true, "whole": int64(3), "fraction": 0.5, "list": []any{"a", 1}, "none": nil})
	require.Equal(t, map[string]string{"text": "a", "flag": "true", "whole": "3", "fraction": "0.5", "list": `["a",1]`, "none": "null"}, got)
	require.Equal(t, map[string]string{}, fromParams(nil))
}

func TestToPage(t *testing.T) {
	t.Parallel()
	two, thirty := int32(2), int32(30)
	require.Equal(t, instance.Page{Number: 1, Size: 20}, toPage(nil, nil))
	require.Equal(t, instance.Page{Number: 2, Size: 30}, toPage(&two, &thirty))
}

func TestToIDs(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]string{
		"": {}, "a": {"a"}, "a,b": {"a", "b"}, " a, b ,": {"a", "b"},
	} {
		require.ElementsMatch(t, want, toIDs(list), list)
	}
}
