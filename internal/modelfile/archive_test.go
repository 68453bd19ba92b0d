package modelfile_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/modelfile"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/modelfile/hubtest"
)

func nobodyWaits() {}

// exported is the archive of acme/acme-7b and the store it comes from.
func exported(t *testing.T) ([]byte, *modelfile.Store, *hubtest.Hub) {
	t.Helper()
	h := hubtest.New(t, "acme/acme-7b", acme())
	s := open(t, t.TempDir(), h, nil)
	end := fetch(t, s, source)
	require.NoError(t, end.Err)
	m, err := s.Manifest(source)
	require.NoError(t, err)
	var archive bytes.Buffer
	require.NoError(t, modelfile.Export(t.Context(), m, end.Dir, &archive))
	return archive.Bytes(), s, h
}

// offline opens a store that can ask nobody.
func offline(t *testing.T) *modelfile.Store {
	t.Helper()
	s, err := modelfile.Open(modelfile.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func TestAModelTravelsToAHostWithoutInternet(t *testing.T) {
	t.Parallel()
	archive, from, h := exported(t)
	s := offline(t)
	require.ErrorContains(t, fetch(t, s, source).Err, "import the model with engineshed model import")
	m, err := s.Import(t.Context(), bytes.NewReader(archive), nobodyWaits)
	require.NoError(t, err)
	require.Equal(t, hubtest.Commit, m.Commit)
	require.Equal(t, s.Dir(source), s.Look(source).Dir)
	requireWhole(t, s.Dir(source), h.Files)

	_, err = s.Import(t.Context(), bytes.NewReader(archive), nobodyWaits)
	require.ErrorIs(t, err, modelfile.ErrPresent)

	var again bytes.Buffer
	require.NoError(t, modelfile.Export(t.Context(), m, s.Dir(source), &again))
	require.Equal(t, archive, again.Bytes(), "the same model is the same archive")
	damaged := filepath.Join(from.Dir(source), "config.json")
	require.NoError(t, os.WriteFile(damaged, []byte(`{"model_type":"evil"}`), 0o600))
	require.ErrorContains(t, modelfile.Export(t.Context(), m, from.Dir(source), io.Discard), "config.json: the checksum is wrong")
}

func TestADirectoryOfOnesOwnIsExported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blob := filepath.Join(t.TempDir(), "blob")
	require.NoError(t, os.WriteFile(blob, weights(1, 1000), 0o600))
	require.NoError(t, os.Symlink(blob, filepath.Join(dir, "model.safetensors")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o600))
	m, err := modelfile.ManifestOf(t.Context(), dir, source)
	require.NoError(t, err)
	var archive bytes.Buffer
	require.NoError(t, modelfile.Export(t.Context(), m, dir, &archive))
	s := offline(t)
	_, err = s.Import(t.Context(), &archive, nobodyWaits)
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(s.Dir(source), "model.safetensors"))
	require.NoError(t, err)
	require.Equal(t, weights(1, 1000), data)

	_, err = modelfile.ManifestOf(t.Context(), t.TempDir(), source)
	require.ErrorContains(t, err, "holds no file that an engine reads")
}

func TestAnImportWaitsForWhoeverHasTheFilesInHand(t *testing.T) {
	t.Parallel()
	archive, _, _ := exported(t)
	h := hubtest.New(t, "acme/acme-7b", acme())
	hold := make(chan struct{})
	h.Hold, h.HoldAfter = hold, 1<<20
	s := open(t, t.TempDir(), h, nil)
	s.Fetch(source)
	eventually(t, "bytes arrive", func() bool {
		n, _ := h.Served("model-00001-of-00002.safetensors")
		return n > 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan struct{}, 1)
	_, err := s.Import(ctx, bytes.NewReader(archive), func() {
		waited <- struct{}{}
		cancel()
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, waited, 1)
	close(hold)
	_, err = s.Import(t.Context(), bytes.NewReader(archive), nobodyWaits)
	require.ErrorIs(t, err, modelfile.ErrPresent, "the download was faster")
}

// entry is one entry of an archive that somebody made by hand.
type entry struct {
	header tar.Header
	data   string
}

func handMade(t *testing.T, entries ...entry) io.Reader {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		e.header.Size, e.header.Mode = int64(len(e.data)), 0o644
		require.NoError(t, w.WriteHeader(&e.header))
		_, err := w.Write([]byte(e.data))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return &archive
}

func file(name, data string) entry { return entry{tar.Header{Typeflag: tar.TypeReg, Name: name}, data} }

// manifest is that of files with the data "data".
func manifest(t *testing.T, change func(*modelfile.Manifest), names ...string) entry {
	t.Helper()
	m := modelfile.Manifest{Format: modelfile.ManifestFormat, Source: source}
	sum := sha256.Sum256([]byte("data"))
	for _, name := range names {
		m.Files = append(m.Files, hub.File{Path: name, Size: 4, SHA256: hex.EncodeToString(sum[:])})
	}
	if change != nil {
		change(&m)
	}
	text, err := json.Marshal(m)
	require.NoError(t, err)
	return file(hub.ManifestName, string(text))
}

func TestAnArchiveThatIsNotAsItShouldBeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	whole, _, _ := exported(t)
	flipped := bytes.Clone(whole)
	flipped[bytes.LastIndex(flipped, weights(2, 100)[:20])+5] ^= 1
	link := func(kind byte) entry {
		return entry{tar.Header{Typeflag: kind, Name: "config.json", Linkname: "../../../etc/passwd"}, ""}
	}
	for name, c := range map[string]struct {
		archive io.Reader
		want    string
	}{
		"no archive":                    {strings.NewReader("hello"), "this is no archive of engineshed model export"},
		"another archive":               {handMade(t, file("config.json", "data")), `it begins with "config.json"`},
		"a manifest that is none":       {handMade(t, file(hub.ManifestName, "[]")), "engineshed.json: json:"},
		"another format":                {handMade(t, manifest(t, func(m *modelfile.Manifest) { m.Format = "x/2" }, "a")), "its format is"},
		"a path that leads out":         {handMade(t, manifest(t, nil, "../evil"), file("../evil", "data")), `"../evil" is not the path of a file`},
		"an absolute path":              {handMade(t, manifest(t, nil, "/etc/evil"), file("/etc/evil", "data")), "is not the path of a file"},
		"a name that leads out":         {handMade(t, manifest(t, nil, "config.json"), file("../config.json", "data")), "is not in the manifest"},
		"a source that leads out":       {handMade(t, manifest(t, func(m *modelfile.Manifest) { m.Source.Name = "../../etc" }, "a")), "the repository"},
		"a URL that leads out":          {handMade(t, manifest(t, func(m *modelfile.Manifest) { m.Source = hub.Source{Kind: hub.URL, Name: "https://x/../../etc"} }, "a")), "plain spelling"},
		"a directory as source":         {handMade(t, manifest(t, func(m *modelfile.Manifest) { m.Source = hub.Source{Kind: hub.Directory, Name: "/etc"} }, "a")), "no source for another"},
		"the manifest as a file":        {handMade(t, manifest(t, nil, hub.ManifestName), file(hub.ManifestName, "data")), "is there twice"},
		"a symbolic link":               {handMade(t, manifest(t, nil, "config.json"), link(tar.TypeSymlink)), "is not a plain file"},
		"a hard link":                   {handMade(t, manifest(t, nil, "config.json"), link(tar.TypeLink)), "is not a plain file"},
		"a file that nobody announced":  {handMade(t, manifest(t, nil, "a"), file("a", "data"), file("b", "data")), `"b" is not in the manifest`},
		"a file twice":                  {handMade(t, manifest(t, nil, "a"), file("a", "data"), file("a", "data")), "is there twice"},
		"a file where a folder is":      {handMade(t, manifest(t, nil, "a/b", "a"), file("a/b", "data"), file("a", "data")), "a: "},
		"a file that is missing":        {handMade(t, manifest(t, nil, "a", "b"), file("a", "data")), "the archive lacks b"},
		"a longer file":                 {handMade(t, manifest(t, nil, "a"), file("a", "data and more")), "has not the 4 bytes"},
		"another file":                  {handMade(t, manifest(t, nil, "a"), file("a", "date")), "the checksum is wrong"},
		"a flipped bit":                 {bytes.NewReader(flipped), "the checksum is wrong"},
		"an end too early":              {bytes.NewReader(whole[:len(whole)/2]), "unexpected EOF"},
		"a checksum that is no SHA-256": {handMade(t, manifest(t, func(m *modelfile.Manifest) { m.Files[0].SHA256 = "x" }, "a")), "is not a SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := offline(t)
			_, err := s.Import(t.Context(), c.archive, nobodyWaits)
			require.ErrorContains(t, err, c.want)
			require.False(t, s.Has(source))
			stored, err := s.List()
			require.NoError(t, err)
			require.Empty(t, stored)
			left, err := filepath.Glob(filepath.Dir(s.Dir(source)) + "/*")
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}
