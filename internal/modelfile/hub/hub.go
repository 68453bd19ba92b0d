package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Hubs reads from every kind of hub.
type Hubs struct {
	huggingFace, modelScope *site
	mirrors                 map[string]*site // by host
	plain                   *site            // of mirrors that nothing is said about
}

// File is one file of a model.
type File struct {
	Path   string `json:"path"`             // relative, with slashes
	Size   int64  `json:"size"`             // bytes; -1: the hub does not say
	SHA256 string `json:"sha256,omitempty"` // lower-case hexadecimal; "": the hub does not say
}

// Listing are the files of a model at one moment.
type Listing struct {
	Commit string `json:"commit,omitempty"` // what the revision stood for, where the hub says so
	Files  []File `json:"files"`
}

// Body is a file from Offset on.
type Body struct {
	io.ReadCloser
	Offset int64  // as asked for, or 0 where the server does not serve parts
	SHA256 string // of the whole file, where only this answer says it
}

// Busy says that the hub asks to wait.
type Busy struct {
	Host  string
	After time.Duration
}

func (b *Busy) Error() string {
	return fmt.Sprintf("%s asks to wait for %s", b.Host, b.After)
}

// The refusals that trying again does not help against.
var (
	ErrNotFound = errors.New("not found")
	ErrDenied   = errors.New("access denied")
	// ErrRange says that the file is not as long as what is there of it.
	ErrRange = errors.New("the file is shorter than what was fetched of it")
)

const (
	maxListing  = 64 << 20
	maxFiles    = 10_000
	maxRetry    = 15 * time.Minute
	usualRetry  = 5 * time.Second
	listTimeout = time.Minute
	// ManifestName is the list of a model's files in the directory of a mirror, and of every model on a host.
	ManifestName = "engineshed.json"
)

// List returns the files of the source, checked: every path is a plain relative one, and none is there twice.
func (h *Hubs) List(ctx context.Context, s Source) (Listing, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var found Listing
	var err error
	switch s.Kind {
	case HuggingFace:
		found, err = h.huggingFace.listHuggingFace(ctx, s)
	case ModelScope:
		found, err = h.modelScope.listModelScope(ctx, s)
	case URL:
		err = h.mirror(s).json(ctx, join(s.Name, ManifestName), &found)
	default:
		return found, fmt.Errorf("files of the kind %s are not fetched", s.Kind)
	}
	if err != nil {
		return found, fmt.Errorf("list the files of %s: %w", s, err)
	}
	return found, found.check(s)
}

func (l Listing) check(s Source) error {
	seen := make(map[string]bool, len(l.Files))
	for _, f := range l.Files {
		if err := f.Check(); err != nil {
			return fmt.Errorf("the files of %s: %w", s, err)
		}
		if seen[f.Path] {
			return fmt.Errorf("the files of %s: %q is there twice", s, f.Path)
		}
		seen[f.Path] = true
	}
	if len(l.Files) == 0 || len(l.Files) > maxFiles {
		return fmt.Errorf("%s lists %d files; a model has 1 to %d", s, len(l.Files), maxFiles)
	}
	return nil
}

var sha256Text = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Check says why f cannot be a file of a model: its path leads out of a directory, or cannot be one.
func (f File) Check() error {
	switch {
	case f.Path == "" || len(f.Path) > 1024 || !filepath.IsLocal(f.Path) || path.Clean(f.Path) != f.Path ||
		strings.ContainsFunc(f.Path, func(r rune) bool { return r == '\\' || unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return fmt.Errorf("%.200q is not the path of a file", f.Path)
	case f.SHA256 != "" && !sha256Text.MatchString(f.SHA256):
		return fmt.Errorf("the checksum of %q is not a SHA-256", f.Path)
	case f.Size < -1:
		return fmt.Errorf("the size of %q is negative", f.Path)
	}
	return nil
}

// Open returns a file of the listing from offset on. Its error is a Busy where the hub asks to wait.
func (h *Hubs) Open(ctx context.Context, s Source, commit string, f File, offset int64) (*Body, error) {
	if commit == "" {
		commit = s.Revision
	}
	switch s.Kind {
	case HuggingFace:
		return h.huggingFace.open(ctx, join(h.huggingFace.endpoint, s.Name, "resolve", url.PathEscape(commit), escape(f.Path)), offset)
	case ModelScope:
		query := url.Values{"Revision": {commit}, "FilePath": {f.Path}}
		return h.modelScope.open(ctx, join(h.modelScope.endpoint, "api/v1/models", s.Name, "repo")+"?"+query.Encode(), offset)
	default:
		return h.mirror(s).open(ctx, join(s.Name, escape(f.Path)), offset)
	}
}

func (h *Hubs) mirror(s Source) *site {
	if address, err := url.Parse(s.Name); err == nil && h.mirrors[address.Host] != nil {
		return h.mirrors[address.Host]
	}
	return h.plain
}

func join(parts ...string) string {
	for i, part := range parts[:len(parts)-1] {
		parts[i] = strings.TrimRight(part, "/")
	}
	return strings.Join(parts, "/")
}

// escape makes a path of a URL of a file's path.
func escape(file string) string {
	parts := strings.Split(file, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

func (h *site) listHuggingFace(ctx context.Context, s Source) (l Listing, err error) {
	var answer struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
			Size *int64 `json:"size"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	address := join(h.endpoint, "api/models", s.Name, "revision", url.PathEscape(s.Revision)) + "?blobs=true"
	if err := h.json(ctx, address, &answer); err != nil {
		return l, err
	}
	if commit.MatchString(answer.SHA) {
		l.Commit = answer.SHA
	}
	for _, sibling := range answer.Siblings {
		f := File{Path: sibling.Name, Size: -1}
		if sibling.Size != nil {
			f.Size = *sibling.Size
		}
		if sibling.LFS != nil {
			f.Size, f.SHA256 = sibling.LFS.Size, sibling.LFS.SHA256
		}
		l.Files = append(l.Files, f)
	}
	return l, nil
}

func (h *site) listModelScope(ctx context.Context, s Source) (l Listing, err error) {
	var answer struct {
		Code    int    `json:"Code"`
		Message string `json:"Message"`
		Data    struct {
			Files []struct {
				Path   string `json:"Path"`
				Type   string `json:"Type"`
				Size   int64  `json:"Size"`
				SHA256 string `json:"Sha256"`
			} `json:"Files"`
		} `json:"Data"`
	}
	query := url.Values{"Revision": {s.Revision}, "Recursive": {"true"}}
	if err := h.json(ctx, join(h.endpoint, "api/v1/models", s.Name, "repo/files")+"?"+query.Encode(), &answer); err != nil {
		return l, err
	}
	if answer.Code != http.StatusOK {
		return l, fmt.Errorf("%s answers %d: %.200s", h.host, answer.Code, answer.Message)
	}
	for _, f := range answer.Data.Files {
		if f.Type != "tree" {
			l.Files = append(l.Files, File{Path: f.Path, Size: f.Size, SHA256: f.SHA256})
		}
	}
	return l, nil
}

// json reads a small answer.
func (h *site) json(ctx context.Context, address string, into any) error {
	response, _, err := h.get(ctx, address, 0)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := refusal(response); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxListing+1))
	if err != nil {
		return bare(err)
	}
	if len(text) > maxListing {
		return fmt.Errorf("%s answers with more than %d MiB", response.Request.URL.Host, maxListing>>20)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s does not answer as a hub does: %w", response.Request.URL.Host, err)
	}
	return nil
}

func (h *site) open(ctx context.Context, address string, offset int64) (*Body, error) {
	response, linked, err := h.get(ctx, address, offset)
	if err != nil {
		return nil, err
	}
	body := &Body{ReadCloser: response.Body, SHA256: linked}
	switch {
	case response.StatusCode == http.StatusOK:
		return body, nil
	case response.StatusCode == http.StatusPartialContent && strings.HasPrefix(response.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)):
		body.Offset = offset
		return body, nil
	case response.StatusCode == http.StatusPartialContent:
		err = fmt.Errorf("%s sends another part of the file than was asked for", response.Request.URL.Host)
	default:
		err = refusal(response)
	}
	response.Body.Close()
	return nil, err
}

// refusal is what an answer that is not 200 says.
func refusal(response *http.Response) error {
	host := response.Request.URL.Host // without its path: that of a CDN can be a secret
	switch code := response.StatusCode; code {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s answers %d; a private or gated model needs a token of somebody who may read it, in the file of --model-sources",
			ErrDenied, host, code)
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%w: %s answers %d", ErrNotFound, host, code)
	case http.StatusRequestedRangeNotSatisfiable:
		return ErrRange
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return &Busy{host, retryAfter(response.Header.Get("Retry-After"), time.Now())}
	default:
		return fmt.Errorf("%s answers %d", host, code)
	}
}

// retryAfter reads the header, which holds seconds or a date.
func retryAfter(header string, now time.Time) time.Duration {
	wait := usualRetry
	if seconds, err := strconv.Atoi(header); err == nil && seconds >= 0 {
		wait = maxRetry
		if seconds < int(maxRetry/time.Second) {
			wait = time.Duration(seconds) * time.Second
		}
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetry)
}
