package embedded

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestADownloadIsUnpackedAndKept(t *testing.T) {
	t.Parallel()
	files := []tar.Header{
		{Name: "./bin/postgres", Typeflag: tar.TypeReg, Mode: 0o755, Size: 4},
		{Name: "lib", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "lib/a.so.1", Typeflag: tar.TypeReg, Mode: 0o600, Size: 4},
		{Name: "lib/a.so", Typeflag: tar.TypeSymlink, Linkname: "a.so.1"},
	}
	maven := serveJar(t, jarOf(t, files))
	cache := filepath.Join(t.TempDir(), "cache")
	for range 2 {
		dir, err := download(t.Context(), maven.URL, maven.archive, cache)
		require.NoError(t, err)
		info, err := os.Stat(filepath.Join(dir, "postgres"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
		info, err = os.Stat(filepath.Join(dir, "..", "lib", "a.so"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o644), info.Mode().Perm())
	}
	require.EqualValues(t, 1, maven.requests.Load())
	require.Equal(t, "/io/zonky/test/postgres/embedded-postgres-binaries-test/"+DownloadVersion+
		"/embedded-postgres-binaries-test-"+DownloadVersion+".jar", maven.path.Load())
}

func TestADownloadWithAnotherChecksumIsRefused(t *testing.T) {
	t.Parallel()
	maven := serveJar(t, jarOf(t, nil))
	maven.archive.sha256 = strings.Repeat("0", 64)
	cache := t.TempDir()
	_, err := download(t.Context(), maven.URL, maven.archive, cache)
	require.ErrorContains(t, err, "is not the file it should be")
	requireNothingKept(t, cache)
}

func TestAnAnswerThatIsNotTheFileIsRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	cache := t.TempDir()
	_, err := download(t.Context(), server.URL, archive{platform: "test"}, cache)
	require.ErrorContains(t, err, "404")
	requireNothingKept(t, cache)
}

func TestAnArchiveThatLeadsOutIsRefused(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]tar.Header{
		"a path upwards":   {{Name: "../evil", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4}},
		"an absolute path": {{Name: "/tmp/evil", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4}},
		"a link upwards":   {{Name: "bin/out", Typeflag: tar.TypeSymlink, Linkname: "../../evil"}},
		"an absolute link": {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/etc"}},
		"a device":         {{Name: "dev", Typeflag: tar.TypeChar}},
		"the same name twice": {
			{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
			{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			maven := serveJar(t, jarOf(t, files))
			cache := t.TempDir()
			_, err := download(t.Context(), maven.URL, maven.archive, cache)
			require.ErrorContains(t, err, "unpack")
			requireNothingKept(t, cache)
		})
	}
}

func TestAnInstalledPostgresIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, version := range []string{"9.6.1", "14.2", "16.3", "17.1"} {
		fakePostgres(t, filepath.Join(dir, "lib", version), version)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "lib", "17.1", "initdb"))) // a client package only
	patterns := []string{filepath.Join(dir, "lib", "*")}

	found, ok := installed(t.Context(), "", patterns)
	require.True(t, ok)
	require.Equal(t, filepath.Join(dir, "lib", "16.3"), found, "the newest that is whole")

	fakePostgres(t, filepath.Join(dir, "path"), "15.1")
	found, _ = installed(t.Context(), filepath.Join(dir, "path"), patterns)
	require.Equal(t, filepath.Join(dir, "path"), found, "the PATH goes first")

	found, _ = installed(t.Context(), filepath.Join(dir, "lib", "14.2"), patterns)
	require.Equal(t, filepath.Join(dir, "lib", "16.3"), found, "one that is too old is passed over")

	_, ok = installed(t.Context(), "", nil)
	require.False(t, ok)
}

func fakePostgres(t *testing.T, dir, version string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, program := range []string{"postgres", "initdb"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755))
	}
}

func requireNothingKept(t *testing.T, cache string) {
	t.Helper()
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "download.lock", entries[0].Name())
}

// maven serves one jar under every path.
type maven struct {
	*httptest.Server
	archive  archive
	requests atomic.Int64
	path     atomic.Value
}

func serveJar(t *testing.T, jar []byte) *maven {
	t.Helper()
	hash := sha256.Sum256(jar)
	m := &maven{archive: archive{platform: "test", sha256: hex.EncodeToString(hash[:])}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		m.path.Store(r.URL.Path)
		_, _ = w.Write(jar)
	}))
	t.Cleanup(m.Close)
	return m
}

// jarOf packs entries as Maven Central has them: a .txz in a zip. A file holds the word "text".
func jarOf(t *testing.T, entries []tar.Header) []byte {
	t.Helper()
	var plain bytes.Buffer
	tarWriter := tar.NewWriter(&plain)
	for _, header := range entries {
		require.NoError(t, tarWriter.WriteHeader(&header))
		if header.Size > 0 {
			_, err := tarWriter.Write([]byte("text"))
			require.NoError(t, err)
		}
	}
	require.NoError(t, tarWriter.Close())
	var jar bytes.Buffer
	zipWriter := zip.NewWriter(&jar)
	file, err := zipWriter.Create("postgres-test.txz")
	require.NoError(t, err)
	_, err = file.Write(xzOf(plain.Bytes()))
	require.NoError(t, err)
	require.NoError(t, zipWriter.Close())
	return jar.Bytes()
}

// xzOf wraps data in the xz format, stored and not compressed, with no check.
func xzOf(data []byte) []byte {
	sum := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

	header := sum([]byte{2, 0, 0x21, 1, 0x16, 0, 0, 0}) // 12 bytes, one filter: LZMA2 with 8 MiB of dictionary
	var chunks []byte
	control := byte(1) // stored, dictionary reset
	for rest := data; len(rest) > 0; control = 2 {
		n := min(len(rest), 1<<16)
		chunks = binary.BigEndian.AppendUint16(append(chunks, control), uint16(n-1))
		chunks = append(chunks, rest[:n]...)
		rest = rest[n:]
	}
	chunks = append(chunks, 0)
	index := binary.AppendUvarint(binary.AppendUvarint([]byte{0, 1}, uint64(len(header)+len(chunks))), uint64(len(data)))
	index = sum(pad(index))
	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), 0, 0)

	out := append([]byte{0xFD, '7', 'z', 'X', 'Z', 0}, sum([]byte{0, 0})...)
	out = append(out, pad(append(header, chunks...))...)
	out = append(out, index...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(footer))
	return append(append(out, footer...), 'Y', 'Z')
}
