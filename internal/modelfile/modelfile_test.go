package modelfile_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/modelfile"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/modelfile/hubtest"
	"github.com/engineshed/engineshed/internal/secret"
)

// weights are bytes that do not repeat, the same for the same seed.
func weights(seed uint64, size int) []byte {
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = source.Read(data)
	return data
}

const size = 3 << 20

// acme are the files of a model: two that are large, small ones, and what no engine reads.
func acme() map[string][]byte {
	return map[string][]byte{
		"model-00001-of-00002.safetensors": weights(1, size), "model-00002-of-00002.safetensors": weights(2, size/2),
		"config.json": []byte(`{"model_type":"acme"}`), "1_Pooling/config.json": []byte("{}"), "empty.txt": {},
		"pytorch_model.bin": weights(3, size), "onnx/model.onnx": weights(4, size), ".gitattributes": []byte("x"), "model.gguf": weights(5, 10),
	}
}

var kept = []string{"1_Pooling/config.json", "config.json", "empty.txt", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}

var source = hub.Source{Kind: hub.HuggingFace, Name: "acme/acme-7b", Revision: "main"}

// open opens a store on dir that asks h.
func open(t *testing.T, dir string, h *hubtest.Hub, change func(*modelfile.Config)) *modelfile.Store {
	t.Helper()
	site := hub.Site{Endpoint: h.URL, Token: secret.New(h.Token), Proxy: "direct"}
	hubs, err := hub.New(hub.Config{HuggingFace: site, ModelScope: site, Mirrors: map[string]hub.Site{h.URL[len("http://"):]: site}})
	require.NoError(t, err)
	c := modelfile.Config{Dir: dir, Hubs: hubs, Log: slog.New(slog.DiscardHandler), Pause: time.Millisecond}
	if change != nil {
		change(&c)
	}
	s, err := modelfile.Open(c)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, 20*time.Second, 2*time.Millisecond, what)
}

// fetch fetches the source and returns how it ended.
func fetch(t *testing.T, s *modelfile.Store, source hub.Source) (end modelfile.Supply) {
	t.Helper()
	s.Fetch(source)
	eventually(t, "the download ends", func() bool {
		end = s.Look(source)
		return !end.Fetching
	})
	return end
}

// requireWhole holds the directory against the files that it should have.
func requireWhole(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		if entry.IsDir() {
			require.Equal(t, fs.FileMode(0o755), info.Mode().Perm(), path)
			return nil
		}
		require.Equal(t, fs.FileMode(0o644), info.Mode().Perm(), path)
		name, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		if name == hub.ManifestName {
			return nil
		}
		found = append(found, name)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(files[name], data), name)
		return nil
	}))
	require.Equal(t, kept, found)
}

func TestAModelIsFetchedFromEveryKindOfHub(t *testing.T) {
	t.Parallel()
	for kind, name := range map[hub.Kind]string{hub.HuggingFace: "acme/acme-7b", hub.ModelScope: "acme/acme-7b", hub.URL: "/plain/acme/acme-7b"} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			h := hubtest.New(t, "acme/acme-7b", acme())
			h.Token = "canary-token"
			dir := t.TempDir()
			s := open(t, dir, h, nil)
			source := hub.Source{Kind: kind, Name: name, Revision: kind.DefaultRevision()}
			if kind == hub.URL {
				source.Name = h.URL + name
			}
			require.Equal(t, modelfile.Supply{}, s.Look(source), "nothing is there and nothing comes by itself")
			end := fetch(t, s, source)
			require.NoError(t, end.Err)
			require.Equal(t, s.Dir(source), end.Dir)
			requireWhole(t, end.Dir, h.Files)
			if kind != hub.URL {
				require.Empty(t, h.Leaked(), "the token stays with the hub")
			}
			stored, err := s.List()
			require.NoError(t, err)
			require.Len(t, stored, 1)
			require.Equal(t, source, stored[0].Source)
			require.EqualValues(t, size+size/2+len(`{"model_type":"acme"}`)+2, stored[0].Fetched)
			left, err := os.ReadDir(filepath.Join(dir, ".partial"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestATokenNeverLeavesItsHub(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	h.Token = "canary-token"
	end := fetch(t, open(t, t.TempDir(), h, nil), source)
	require.NoError(t, end.Err)
	_, requests := h.Served("model-00001-of-00002.safetensors")
	require.Positive(t, requests, "the second server was asked")
	require.Empty(t, h.Leaked())
}

func TestWithoutATokenTheReasonSaysSo(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	s := open(t, t.TempDir(), h, nil)
	h.Set(func(h *hubtest.Hub) { h.Token = "another" })
	end := fetch(t, s, source)
	require.ErrorIs(t, end.Err, hub.ErrDenied)
	require.ErrorContains(t, end.Err, "a private or gated model needs a token")
	end = fetch(t, s, hub.Source{Kind: hub.HuggingFace, Name: "acme/none", Revision: "main"})
	require.ErrorIs(t, end.Err, hub.ErrDenied)
	h.Set(func(h *hubtest.Hub) { h.Token = "" })
	end = fetch(t, s, hub.Source{Kind: hub.HuggingFace, Name: "acme/none", Revision: "main"})
	require.ErrorIs(t, end.Err, hub.ErrNotFound)
}

func TestTwoWhoWaitShareOneDownload(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	h.Hold, h.HoldAfter = make(chan struct{}), 1<<20
	dir := t.TempDir()
	first, second := open(t, dir, h, nil), open(t, dir, h, nil) // as two processes would
	first.Fetch(source)
	eventually(t, "bytes arrive", func() bool {
		n, _ := h.Served("model-00001-of-00002.safetensors")
		return n >= 1<<20
	})
	first.Fetch(source)
	second.Fetch(source)
	eventually(t, "the second waits", func() bool {
		return second.Look(source).Note == "downloading acme/acme-7b@main: another process of this host has its files in hand"
	})
	require.True(t, first.Look(source).Fetching)
	close(h.Hold)
	for _, s := range []*modelfile.Store{first, second} {
		eventually(t, "both have it", func() bool { return s.Look(source).Dir != "" })
	}
	n, requests := h.Served("model-00001-of-00002.safetensors")
	require.EqualValues(t, size, n)
	require.Equal(t, 1, requests)
	requireWhole(t, first.Dir(source), h.Files)
}

func TestAStoppedDownloadGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	h.Hold, h.HoldAfter = make(chan struct{}), 1<<20
	dir := t.TempDir()
	s := open(t, dir, h, nil)
	s.Fetch(source)
	eventually(t, "a megabyte is written", func() bool {
		stored, err := s.List()
		require.NoError(t, err)
		return len(stored) == 1 && stored[0].Fetched >= 2<<20 && stored[0].Dir == ""
	})
	s.Close()
	h.Set(func(h *hubtest.Hub) { h.Hold = nil })

	again := open(t, dir, h, nil)
	end := fetch(t, again, source)
	require.NoError(t, end.Err)
	requireWhole(t, end.Dir, h.Files)
	n, requests := h.Served("model-00001-of-00002.safetensors")
	require.EqualValues(t, size, n, "no byte twice")
	require.Equal(t, 2, requests)
}

func TestWhatAHubDoesWrongIsMended(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(h *hubtest.Hub)
		bytes  int64 // of the first file, in all; 0: it depends
	}{
		"an answer ends early":            {func(h *hubtest.Hub) { h.Cut, h.CutTimes = 1<<20, 2 }, size},
		"every answer is short":           {func(h *hubtest.Hub) { h.Cut, h.CutTimes = 256<<10, 17 }, size},
		"no parts, and an end too early":  {func(h *hubtest.Hub) { h.NoRanges, h.Cut, h.CutTimes = true, 1<<20, 2 }, 0},
		"a wrong checksum":                {func(h *hubtest.Hub) { h.Spoil = 2 }, 0},
		"no sizes and checksums":          {func(h *hubtest.Hub) { h.Unlisted = true }, size},
		"no sizes, and a wrong checksum":  {func(h *hubtest.Hub) { h.Unlisted, h.Spoil = true, 2 }, 0},
		"it asks to wait":                 {func(h *hubtest.Hub) { h.BusyFor, h.Retry = 3, "0" }, size},
		"no sizes and an end too early":   {func(h *hubtest.Hub) { h.Unlisted, h.Cut, h.CutTimes = true, 1<<20, 2 }, size},
		"it asks to wait until yesterday": {func(h *hubtest.Hub) { h.BusyFor, h.Retry = 3, "Mon, 02 Jan 2006 15:04:05 GMT" }, size},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hubtest.New(t, "acme/acme-7b", acme())
			c.change(h)
			end := fetch(t, open(t, t.TempDir(), h, nil), source)
			require.NoError(t, end.Err)
			requireWhole(t, end.Dir, h.Files)
			if n, _ := h.Served("model-00001-of-00002.safetensors"); c.bytes > 0 {
				require.Equal(t, c.bytes, n)
			}
		})
	}
}

func TestWhatCannotBeMendedIsSaidAndTriedAgainWhenAsked(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	h.Spoil = 1000
	s := open(t, t.TempDir(), h, nil)
	end := fetch(t, s, source)
	require.ErrorContains(t, end.Err, "of acme/acme-7b@main: the checksum is wrong")
	require.Empty(t, end.Dir)
	require.Equal(t, end.Err, s.Look(source).Err, "whoever waits learns it")

	h.Set(func(h *hubtest.Hub) { h.Spoil, h.Gone = 0, true })
	require.ErrorIs(t, fetch(t, s, source).Err, hub.ErrNotFound)
	h.Set(func(h *hubtest.Hub) { h.Gone = false })
	end = fetch(t, s, source)
	require.NoError(t, end.Err)
	requireWhole(t, end.Dir, h.Files)
}

func TestAHubThatAsksToWaitIsObeyedAndTheNoteSaysSo(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	h.BusyFor, h.Retry = 100, "3600"
	s := open(t, t.TempDir(), h, nil)
	s.Fetch(source)
	eventually(t, "the note tells", func() bool {
		return bytes.Contains([]byte(s.Look(source).Note), []byte("127.0.0.1")) && bytes.Contains([]byte(s.Look(source).Note), []byte("asks to wait until "))
	})
	h.Set(func(h *hubtest.Hub) { require.GreaterOrEqual(t, h.BusyFor, 95, "each file is asked for once") })
}

func TestADownloadThatStandsStillIsAskedForAgain(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	hold := make(chan struct{})
	defer close(hold)
	h.Hold, h.HoldAfter = hold, 1<<20
	s := open(t, t.TempDir(), h, func(c *modelfile.Config) { c.Stall = 500 * time.Millisecond })
	end := fetch(t, s, source)
	require.NoError(t, end.Err, "every attempt brings a megabyte")
	requireWhole(t, end.Dir, h.Files)
}

func TestADownloadThatNobodyWaitsForStopsAndKeepsItsParts(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	hold := make(chan struct{})
	defer close(hold)
	h.Hold, h.HoldAfter = hold, 1<<20
	s := open(t, t.TempDir(), h, func(c *modelfile.Config) { c.Abandon = time.Second })
	s.Fetch(source)
	eventually(t, "half of it is here, while somebody looks", func() bool {
		require.True(t, s.Look(source).Fetching)
		stored, err := s.List()
		require.NoError(t, err)
		return len(stored) == 1 && stored[0].Fetched >= 2<<20
	})
	eventually(t, "the hub is left", func() bool { return h.Left() == 2 }) // looking would keep the download alive
	eventually(t, "it has stopped", func() bool { return s.Look(source) == modelfile.Supply{} })
	stored, err := s.List()
	require.NoError(t, err)
	require.GreaterOrEqual(t, stored[0].Fetched, int64(2<<20))
}

func TestAModelThatIsTooLargeForTheDiskIsRefusedBeforeItIsFetched(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	h.Declared = map[string]int64{"model-00001-of-00002.safetensors": 1 << 60}
	end := fetch(t, open(t, t.TempDir(), h, nil), source)
	require.ErrorContains(t, end.Err, "acme/acme-7b@main needs another 1073741824.0 GiB: make room, or give --models a larger disk")
	_, requests := h.Served("model-00001-of-00002.safetensors")
	require.Zero(t, requests)
}

func TestAHubCannotWriteOutsideOfTheModel(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../evil", "/etc/evil", "a/../../evil", "a//b", "a\\..\\evil", "a\nb", ""} {
		h := hubtest.New(t, "acme/acme-7b", map[string][]byte{name: []byte("x"), "config.json": []byte("{}")})
		end := fetch(t, open(t, t.TempDir(), h, nil), source)
		require.ErrorContains(t, end.Err, "is not the path of a file", name)
	}
}

func TestADirectoryOfTheHostIsUsedWhereItIs(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	s := open(t, t.TempDir(), h, nil)
	there := t.TempDir()
	require.Equal(t, modelfile.Supply{Dir: there}, s.Look(hub.Source{Kind: hub.Directory, Name: there}))
	require.ErrorContains(t, s.Look(hub.Source{Kind: hub.Directory, Name: there + "/none"}).Err, "is not on this host")
}

func TestNoTwoSourcesShareADirectory(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, "acme/acme-7b", acme())
	s := open(t, t.TempDir(), h, nil)
	seen := map[string]hub.Source{}
	for _, source := range []hub.Source{
		{Kind: hub.HuggingFace, Name: "a/b", Revision: "main"},
		{Kind: hub.HuggingFace, Name: "a/b", Revision: "x/main"},
		{Kind: hub.HuggingFace, Name: "a", Revision: "b"},
		{Kind: hub.HuggingFace, Name: "a", Revision: "b/main"},
		{Kind: hub.ModelScope, Name: "a/b", Revision: "main"},
		{Kind: hub.URL, Name: "https://a/b"},
		{Kind: hub.URL, Name: "https://a/b/c"},
		{Kind: hub.URL, Name: "https://a:1/b"},
		{Kind: hub.URL, Name: "https://a/@/b"},
	} {
		require.NoError(t, source.Check())
		dir := s.Dir(source)
		for other := range seen {
			relative, err := filepath.Rel(other, dir)
			require.NoError(t, err)
			require.False(t, filepath.IsLocal(relative), "%v and %v", source, seen[other])
		}
		seen[dir] = source
	}
}

func TestFilesAreForEveryUserWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	h := hubtest.New(t, "acme/acme-7b", acme())
	end := fetch(t, open(t, filepath.Join(t.TempDir(), "models"), h, nil), source)
	require.NoError(t, end.Err)
	requireWhole(t, end.Dir, h.Files)
}
