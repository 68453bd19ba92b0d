// Package modelfile keeps the files of models on a host: each model once, whole, and for every engine to read.
//
// A model's directory is there or it is not: it is made elsewhere and renamed when every file has arrived and was checked.
// Whoever makes one, a worker or an import, holds a lock that the kernel keeps as long as that process lives.
package modelfile

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

// Config is what a Store needs. Zero durations have the values that workers use.
type Config struct {
	Dir     string // absolute; engines must be able to enter it
	Hubs    *hub.Hubs
	Log     *slog.Logger
	Stall   time.Duration // how long a download may stand still before it is asked for again; 0: a minute
	Abandon time.Duration // after so long without anybody who looks a download stops, and its parts stay; 0: two minutes
	Pause   time.Duration // before the first repetition, doubled for each further one; 0: a second
}

// Store is the models of one host.
type Store struct {
	config  Config
	mu      sync.Mutex
	closed  bool
	fetches map[hub.Source]*fetch
	running sync.WaitGroup
}

// Manifest is what is known of a model's files.
type Manifest struct {
	Format string     `json:"format"` // ManifestFormat
	Source hub.Source `json:"source"`
	hub.Listing
}

// ManifestFormat is the only format there is so far.
const ManifestFormat = "engineshed-model/1"

const (
	partialDir  = ".partial"
	locksDir    = ".locks"
	listingFile = "listing.json" // in a partial directory: what was listed when the download began
	filesDir    = "files"        // there: the files that are whole
	partsDir    = "parts"        // there: those that are not
)

// Open makes the store's directory unless it is there.
func Open(c Config) (*Store, error) {
	if !filepath.IsAbs(c.Dir) || strings.ContainsAny(c.Dir, " \t\n") {
		return nil, fmt.Errorf("the directory of models %q must be an absolute path without spaces", c.Dir)
	}
	c.Stall, c.Abandon, c.Pause = cmp.Or(c.Stall, time.Minute), cmp.Or(c.Abandon, 2*time.Minute), cmp.Or(c.Pause, time.Second)
	c.Log = cmp.Or(c.Log, slog.Default())
	for _, dir := range []string{c.Dir, filepath.Join(c.Dir, locksDir), filepath.Join(c.Dir, partialDir)} {
		if err := makeDir(dir); err != nil {
			return nil, fmt.Errorf("the directory of models: %w", err)
		}
	}
	return &Store{config: c, fetches: map[hub.Source]*fetch{}}, nil
}

// makeDir makes a directory that every user may look into, whatever the umask says. One that is there keeps its mode.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// key is the place of a source below the store's directory. No two sources share one, and none lies in another's: an @ ends
// every one and stands nowhere else.
func key(s hub.Source) string {
	name := s.Name
	if s.Kind == hub.URL {
		if address, err := url.Parse(s.Name); err == nil {
			name = strings.ReplaceAll(address.Host, ":", "_") + strings.TrimRight(address.EscapedPath(), "/")
		}
		name = strings.ReplaceAll(name, "@", "%40")
	}
	return filepath.Join(string(s.Kind), filepath.FromSlash(name)+"@"+strings.ReplaceAll(s.Revision, "/", "+"))
}

// flat is a key as one name.
func flat(s hub.Source) string {
	const longest = 200
	name := url.PathEscape(key(s))
	if len(name) > longest {
		return fmt.Sprintf("%x", sha256.Sum256([]byte(name)))
	}
	return name
}

// Dir is where the files of the source are, or will be.
func (s *Store) Dir(source hub.Source) string {
	if source.Kind == hub.Directory {
		return source.Name
	}
	return filepath.Join(s.config.Dir, key(source))
}

// Has reports whether the files are there, whole.
func (s *Store) Has(source hub.Source) bool {
	info, err := os.Stat(filepath.Join(s.Dir(source), hub.ManifestName))
	return err == nil && info.Mode().IsRegular()
}

func (s *Store) partial(source hub.Source, names ...string) string {
	return filepath.Join(append([]string{s.config.Dir, partialDir, flat(source)}, names...)...)
}

// Manifest returns what is known of a model that is there.
func (s *Store) Manifest(source hub.Source) (m Manifest, err error) {
	return readManifest(filepath.Join(s.Dir(source), hub.ManifestName))
}

func readManifest(path string) (m Manifest, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// check says why m cannot be the manifest of a model that is whole.
func (m Manifest) check() error {
	if m.Format != ManifestFormat {
		return fmt.Errorf("its format is %.64q, and this program knows %s", m.Format, ManifestFormat)
	}
	if m.Source.Kind == hub.Directory {
		return errors.New("a directory of one host is no source for another")
	}
	seen := map[string]bool{hub.ManifestName: true}
	for _, f := range m.Files {
		if seen[f.Path] {
			return fmt.Errorf("%q is there twice", f.Path)
		}
		seen[f.Path] = true
		if f.Size < 0 || f.SHA256 == "" {
			return fmt.Errorf("%q has no size or no checksum", f.Path)
		}
		if err := f.Check(); err != nil {
			return err
		}
	}
	return m.Source.Check()
}

// Bytes is the size of all files; -1 when one is not known.
func (m Manifest) Bytes() (sum int64) { return bytesOf(m.Files) }

func bytesOf(files []hub.File) (sum int64) {
	for _, f := range files {
		if f.Size < 0 {
			return -1
		}
		sum += f.Size
	}
	return sum
}

// Stored is a model on this host, or a part of one.
type Stored struct {
	Manifest
	Dir     string // "" when it is not whole
	Fetched int64  // bytes that are there
}

// List returns what is on this host, by source.
func (s *Store) List() ([]Stored, error) {
	var found []Stored
	err := filepath.WalkDir(s.config.Dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir() || path == s.config.Dir:
			return nil
		case strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case !strings.Contains(entry.Name(), "@"):
			return nil
		}
		if m, err := readManifest(filepath.Join(path, hub.ManifestName)); err == nil {
			found = append(found, Stored{m, path, m.Bytes()})
		}
		return filepath.SkipDir
	})
	if err != nil {
		return nil, err
	}
	partial, err := s.listPartial()
	found = append(found, partial...)
	slices.SortFunc(found, func(a, b Stored) int { return strings.Compare(key(a.Source), key(b.Source)) })
	return found, err
}

func (s *Store) listPartial() (found []Stored, err error) {
	names, err := filepath.Glob(filepath.Join(s.config.Dir, partialDir, "*", listingFile))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var m Manifest
		text, err := os.ReadFile(name)
		if err == nil && json.Unmarshal(text, &m) == nil {
			found = append(found, Stored{Manifest: m, Fetched: sizeBelow(filepath.Dir(name))})
		}
	}
	return found, nil
}

// sizeBelow is the size of the files below dir that are whole or in parts.
func sizeBelow(dir string) (sum int64) {
	for _, part := range []string{filesDir, partsDir} {
		_ = filepath.WalkDir(filepath.Join(dir, part), func(_ string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return nil
			}
			if info, err := entry.Info(); err == nil {
				sum += info.Size()
			}
			return nil
		})
	}
	return sum
}
