package modelfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

// The ways in which an attempt fails that another one may mend.
var (
	errTruncated = errors.New("the connection ended before the file did")
	errTooLong   = errors.New("the file is longer than the hub says")
	errChecksum  = errors.New("the checksum is wrong")
	errStalled   = errors.New("nothing arrived for too long")
)

// file fetches one file unless it is there, and fills in its size and checksum where the hub did not say them.
func (s *Store) file(ctx context.Context, f *fetch, commit string, file *hub.File) error {
	whole := s.partial(f.source, filesDir, filepath.FromSlash(file.Path))
	if info, err := os.Stat(whole); err == nil && (file.Size < 0 || info.Size() == file.Size) {
		return complete(whole, info.Size(), file)
	}
	part := s.partial(f.source, partsDir, filepath.FromSlash(file.Path))
	for _, dir := range []string{filepath.Dir(whole), filepath.Dir(part)} {
		if err := makeDir(dir); err != nil {
			return err
		}
	}
	failures := 0
	for {
		progressed, err := s.attempt(ctx, f, commit, file, part)
		if err == nil {
			return os.Rename(part, whole)
		}
		if progressed {
			failures = 0
		}
		if busy, ok := errors.AsType[*hub.Busy](err); ok {
			if err := f.wait(ctx, busy); err != nil {
				return err
			}
			continue
		}
		if failures++; !mayMend(ctx, err) || failures >= maxFailures {
			return fmt.Errorf("%s of %s: %w", file.Path, f.source, err)
		}
		s.config.Log.InfoContext(ctx, "file is asked for again", slog.String("model", f.source.String()), slog.String("file", file.Path), slog.Any("error", err))
		pause := s.config.Pause << (failures - 1)
		if err := sleep(ctx, pause+rand.N(pause/4+1)); err != nil {
			return err
		}
	}
}

// mayMend reports whether trying again can help.
func mayMend(ctx context.Context, err error) bool {
	return ctx.Err() == nil && !errors.Is(err, hub.ErrDenied) && !errors.Is(err, hub.ErrNotFound) &&
		!errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) && !errors.Is(err, os.ErrPermission)
}

// complete fills in what is not known of a file that is there.
func complete(path string, size int64, file *hub.File) error {
	file.Size = size
	if file.SHA256 != "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	file.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// attempt fetches what is missing of a part, and checks the whole. progressed reports whether any byte came.
func (s *Store) attempt(ctx context.Context, f *fetch, commit string, file *hub.File, path string) (progressed bool, err error) {
	p, err := openPart(path, file.Size)
	if err != nil {
		return false, err
	}
	defer p.file.Close()
	begun := p.size
	if file.Size < 0 || p.size < file.Size || p.size == 0 {
		if err := s.more(ctx, f, commit, file, p); err != nil {
			return p.size > begun, err
		}
	}
	switch sum := hex.EncodeToString(p.sum.Sum(nil)); {
	case file.Size >= 0 && p.size < file.Size:
		return p.size > begun, errTruncated
	case file.SHA256 != "" && sum != file.SHA256:
		f.bytes.Add(-p.size)
		return false, errors.Join(errChecksum, p.restart())
	default:
		file.Size, file.SHA256 = p.size, sum
	}
	return true, p.file.Sync()
}

// more appends to the part what the hub sends.
func (s *Store) more(ctx context.Context, f *fetch, commit string, file *hub.File, p *part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	guard := time.AfterFunc(s.config.Stall, func() { cancel(errStalled) })
	defer guard.Stop()
	body, err := s.config.Hubs.Open(ctx, f.source, commit, *file, p.size)
	if errors.Is(err, hub.ErrRange) && p.size > 0 {
		f.bytes.Add(-p.size)
		return errors.Join(err, p.restart())
	}
	if err != nil {
		return because(ctx, err)
	}
	defer body.Close()
	if body.Offset != p.size { // this server sends whole files only
		f.bytes.Add(-p.size)
		if err := p.restart(); err != nil {
			return err
		}
	}
	if file.SHA256 == "" {
		file.SHA256 = body.SHA256
	}
	return because(ctx, s.copy(f, file, p, body, guard))
}

// because is why ctx ended, or err.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

func (s *Store) copy(f *fetch, file *hub.File, p *part, body io.Reader, guard *time.Timer) error {
	buffer := make([]byte, 256<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			guard.Reset(s.config.Stall)
			if file.Size >= 0 && p.size+int64(n) > file.Size {
				f.bytes.Add(-p.size)
				return errors.Join(errTooLong, p.restart())
			}
			if err := p.write(buffer[:n]); err != nil {
				return err
			}
			f.bytes.Add(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w (%w)", errTruncated, err)
		}
	}
}

// part is a file that is on its way.
type part struct {
	file *os.File
	size int64
	sum  hash.Hash // of the size bytes that are there
}

// openPart opens what there is of a file of the given size, -1 for one that is not known.
func openPart(path string, size int64) (*part, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	p := &part{file: file, sum: sha256.New()}
	if err = file.Chmod(0o644); err == nil { // whatever the umask says: engines read it
		p.size, err = io.Copy(p.sum, file)
	}
	if err == nil && size >= 0 && p.size > size {
		err = p.restart()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return p, nil
}

func (p *part) write(data []byte) error {
	n, err := p.file.Write(data)
	p.sum.Write(data[:n])
	p.size += int64(n)
	return err
}

// restart throws away what there is.
func (p *part) restart() error {
	p.size, p.sum = 0, sha256.New()
	_, err := p.file.Seek(0, io.SeekStart)
	return errors.Join(p.file.Truncate(0), err)
}
