package catalog

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// settings are the names of a file's settings as the decoder knows them.
func settings(shape reflect.Type, prefix string) (all []string) {
	switch {
	case shape.Kind() == reflect.Map:
		return settings(shape.Elem(), prefix+"NAME.")
	case shape.Kind() != reflect.Struct || shape.NumField() > 0 && shape.Field(0).Tag.Get("yaml") == "":
		return []string{strings.TrimSuffix(prefix, ".")}
	}
	for field := range shape.Fields() {
		all = append(all, settings(field.Type, prefix+field.Tag.Get("yaml")+".")...)
	}
	return all
}

func TestThePageAboutModelsListsEverySetting(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/models.md")
	require.NoError(t, err)
	table, _, _ := strings.Cut(string(page)[strings.Index(string(page), "| setting |"):], "\n\n")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z.]+)` \\| ").FindAllStringSubmatch(table, -1) {
		listed = append(listed, row[1])
	}
	want := settings(reflect.TypeFor[modelYAML](), "")
	slices.Sort(listed)
	slices.Sort(want)
	require.Equal(t, want, listed)
}

func TestTheExampleOfThePageIsAModel(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/models.md")
	require.NoError(t, err)
	example := regexp.MustCompile("(?s)```yaml\n(name:.*?)```").FindSubmatch(page)
	require.NotNil(t, example)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "acme.yaml"), example[1], 0o600))
	c, err := Open(dir)
	require.NoError(t, err)
	m, err := c.Find("Acme-7B")
	require.NoError(t, err)
	require.True(t, m.Source.Pinned())
}
