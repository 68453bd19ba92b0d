package modelfile

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

// maxManifest bounds what is read of an archive before anything in it is believed.
const maxManifest = 16 << 20

// ManifestOf works out the manifest of a directory that holds the files of the source, by reading all of them.
func ManifestOf(ctx context.Context, dir string, source hub.Source) (m Manifest, err error) {
	m = Manifest{Format: ManifestFormat, Source: source}
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		info, err := os.Stat(name) // a cache of a hub holds links to its files
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a file", name)
		}
		m.Files = append(m.Files, hub.File{Path: filepath.ToSlash(relative), Size: info.Size()})
		return nil
	})
	if err != nil {
		return m, err
	}
	m.Files = wanted(m.Files)
	if len(m.Files) == 0 {
		return m, fmt.Errorf("%s holds no file that an engine reads", dir)
	}
	for i := range m.Files {
		if err := complete(filepath.Join(dir, filepath.FromSlash(m.Files[i].Path)), m.Files[i].Size, &m.Files[i]); err != nil {
			return m, err
		}
	}
	return m, m.check()
}

// Export writes the files of m, which lie in dir, to w as a tar archive that begins with the manifest. A file that is not
// as the manifest says is an error, and the archive is then of no use.
func Export(ctx context.Context, m Manifest, dir string, w io.Writer) error {
	if err := m.check(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	if err := archive.WriteHeader(header(hub.ManifestName, int64(len(text)))); err != nil {
		return err
	}
	if _, err := archive.Write(text); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := exportFile(archive, dir, f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return archive.Close()
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX}
}

func exportFile(archive *tar.Writer, dir string, f hub.File) error {
	file, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.Path)))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := archive.WriteHeader(header(f.Path, f.Size)); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(archive, sum), file)
	switch {
	case err != nil:
		return err
	case n != f.Size:
		return fmt.Errorf("it has %d bytes and should have %d", n, f.Size)
	case hex.EncodeToString(sum.Sum(nil)) != f.SHA256:
		return errChecksum
	}
	return nil
}

// ErrPresent says that a model that is imported is on this host already.
var ErrPresent = errors.New("the model is on this host already")

// Import reads an archive that Export wrote and puts its model on this host: whole and checked, or not at all. waiting is
// called while somebody else has the model's files in hand.
func (s *Store) Import(ctx context.Context, r io.Reader, waiting func()) (m Manifest, err error) {
	archive := tar.NewReader(r)
	if m, err = readArchiveManifest(archive); err != nil {
		return m, err
	}
	unlock, err := s.lock(ctx, m.Source, waiting)
	if err != nil {
		return m, err
	}
	defer unlock()
	if s.Has(m.Source) {
		return m, fmt.Errorf("%w: %s; remove that directory first to replace it", ErrPresent, s.Dir(m.Source))
	}
	f := &fetch{source: m.Source}
	f.begin(m.Bytes(), 0)
	if err := s.checkRoom(f); err != nil {
		return m, err
	}
	files := s.partial(m.Source) + ".import" // beside a download that was broken off, whose parts stay if this comes to nothing
	if err := errors.Join(os.RemoveAll(files), makeDir(files)); err != nil {
		return m, s.explain(err)
	}
	if err := unpack(ctx, archive, m, files); err != nil {
		return m, s.explain(errors.Join(err, os.RemoveAll(files)))
	}
	return m, s.settle(m, files)
}

func readArchiveManifest(archive *tar.Reader) (m Manifest, err error) {
	entry, err := archive.Next()
	if err != nil {
		return m, fmt.Errorf("this is no archive of engineshed model export: %w", err)
	}
	if entry.Name != hub.ManifestName || entry.Typeflag != tar.TypeReg || entry.Size > maxManifest {
		return m, fmt.Errorf("this is no archive of engineshed model export: it begins with %.200q and not with %s", entry.Name, hub.ManifestName)
	}
	if err := json.NewDecoder(archive).Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", hub.ManifestName, err)
	}
	if err := m.check(); err != nil {
		return m, fmt.Errorf("%s: %w", hub.ManifestName, err)
	}
	return m, nil
}

// unpack writes the files of the manifest below dir. Nothing that the archive holds can lead out of it: what is not in the
// manifest is refused, and dir is a root that the kernel keeps.
func unpack(ctx context.Context, archive *tar.Reader, m Manifest, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := slices.Clone(m.Files)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the archive is damaged or ends early: %w", err)
		}
		i := slices.IndexFunc(left, func(f hub.File) bool { return f.Path == entry.Name })
		switch {
		case entry.Typeflag != tar.TypeReg:
			return fmt.Errorf("%.200q is not a plain file", entry.Name)
		case i < 0:
			return fmt.Errorf("%.200q is not in the manifest, or is there twice", entry.Name)
		}
		if err := unpackFile(root, archive, left[i]); err != nil {
			return fmt.Errorf("%s: %w", entry.Name, err)
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		return fmt.Errorf("the archive lacks %s and %d more files", left[0].Path, len(left)-1)
	}
	return nil
}

func unpackFile(root *os.Root, from io.Reader, f hub.File) error {
	if err := makeFolders(root, path.Dir(f.Path)); err != nil {
		return err
	}
	to, err := root.OpenFile(filepath.FromSlash(f.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(from, f.Size+1))
	if err := errors.Join(err, to.Chmod(0o644), to.Sync(), to.Close()); err != nil {
		return err
	}
	if n != f.Size {
		return fmt.Errorf("it has not the %d bytes that the manifest says", f.Size)
	}
	if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return errChecksum
	}
	return nil
}

// makeFolders makes a folder and those above it, for every user to enter.
func makeFolders(root *os.Root, folder string) error {
	if folder == "." {
		return nil
	}
	made := ""
	for name := range strings.SplitSeq(folder, "/") {
		made = path.Join(made, name)
		if err := root.Mkdir(made, 0o755); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := root.Chmod(made, 0o755); err != nil {
			return err
		}
	}
	return nil
}
