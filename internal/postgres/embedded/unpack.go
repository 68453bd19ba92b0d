package embedded

import (
	"archive/tar"
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/xi2/xz"
)

// What an archive may unpack to. The real ones hold a thousand files and 60 MB.
const (
	maxEntries  = 10_000
	maxUnpacked = 512 << 20
)

// unpackJar unpacks the one .txz in the jar into dir, which it makes.
func unpackJar(jar, dir string) error {
	reader, err := zip.OpenReader(jar)
	if err != nil {
		return err
	}
	defer reader.Close()
	for _, file := range reader.File {
		if strings.HasSuffix(file.Name, ".txz") {
			inner, err := file.Open()
			if err != nil {
				return err
			}
			defer inner.Close()
			return unpackTxz(inner, dir)
		}
	}
	return errors.New("the jar holds no .txz")
}

func unpackTxz(r io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // refuses every path that leads out of dir, through links too
	if err != nil {
		return err
	}
	defer root.Close()
	plain, err := xz.NewReader(r, 0)
	if err != nil {
		return err
	}
	return unpackTar(tar.NewReader(io.LimitReader(plain, maxUnpacked)), root)
}

func unpackTar(archive *tar.Reader, root *os.Root) error {
	for range maxEntries {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpackEntry(archive, header, root); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	return fmt.Errorf("more than %d entries", maxEntries)
}

func unpackEntry(archive *tar.Reader, header *tar.Header, root *os.Root) error {
	name := filepath.Clean(header.Name)
	if !filepath.IsLocal(name) {
		return errors.New("it leads out of the archive")
	}
	if header.Typeflag == tar.TypeDir {
		return makeDirs(root, name)
	}
	if err := makeDirs(root, filepath.Dir(name)); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeReg:
		return unpackFile(archive, name, 0o644|os.FileMode(header.Mode)&0o111, root)
	case tar.TypeSymlink:
		if !filepath.IsLocal(filepath.Join(filepath.Dir(name), header.Linkname)) || filepath.IsAbs(header.Linkname) {
			return fmt.Errorf("it links to %s, outside the archive", header.Linkname)
		}
		return root.Symlink(header.Linkname, name)
	default:
		return fmt.Errorf("it is neither a file, a folder nor a link (type %q)", header.Typeflag)
	}
}

// makeDirs makes folders that everybody may enter, whatever the umask says: Postgres may run as another user.
func makeDirs(root *os.Root, dir string) error {
	if _, err := root.Stat(dir); dir == "." || err == nil {
		return nil
	}
	if err := makeDirs(root, filepath.Dir(dir)); err != nil {
		return err
	}
	return errors.Join(root.Mkdir(dir, 0o755), root.Chmod(dir, 0o755))
}

func unpackFile(content io.Reader, name string, mode os.FileMode, root *os.Root) error {
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Chmod(mode), file.Close())
}
