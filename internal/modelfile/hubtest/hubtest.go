// Package hubtest is a hub for tests: an HTTP server that answers as Hugging Face, ModelScope and a plain mirror do, keeps
// its large files on a second server, and misbehaves when told to.
package hubtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Commit is what every revision of the hub stands for.
const Commit = "0123456789abcdef0123456789abcdef01234567"

// Large is from which size on a file is kept by the second server, and its checksum told.
const Large = 1 << 10

// Hub is a running hub. Its fields may be changed through Set alone once it is asked.
type Hub struct {
	URL string // of the hub; the second server has another port

	Token     string            // asked for where it is not ""
	Files     map[string][]byte // of the one repository Repo
	Repo      string            // owner/name
	NoRanges  bool              // whole files only
	BusyFor   int               // so many requests for files are answered 429 with Retry-After: RetryAfter
	Retry     string            // that header
	Cut       int64             // an answer ends after so many bytes; 0: never
	CutTimes  int               // how often
	Spoil     int               // so many answers have a wrong last byte
	Gone      bool              // every file is 404, the list is not
	Unlisted  bool              // the list says neither sizes nor checksums
	Hold      chan struct{}     // when not nil, an answer stops after HoldAfter bytes until this is closed
	HoldAfter int64
	Declared  map[string]int64 // sizes that the list says in place of the true ones

	mu       sync.Mutex
	cdn      string
	served   map[string]int64 // bytes of each file
	requests map[string]int
	leaked   []string // credentials that reached the second server
	gone     int      // of the clients that were held, those that did not wait
}

// New starts a hub with one repository.
func New(t *testing.T, repo string, files map[string][]byte) *Hub {
	t.Helper()
	h := &Hub{Repo: repo, Files: files, served: map[string]int64{}, requests: map[string]int{}}
	hub, cdn := httptest.NewServer(http.HandlerFunc(h.serve)), httptest.NewServer(http.HandlerFunc(h.serveLarge))
	t.Cleanup(func() {
		hub.CloseClientConnections()
		cdn.CloseClientConnections()
		hub.Close()
		cdn.Close()
	})
	h.URL = hub.URL
	h.cdn = strings.Replace(cdn.URL, "127.0.0.1", "localhost", 1)
	return h
}

// Set changes the hub while it runs.
func (h *Hub) Set(change func(h *Hub)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

// Served returns how many bytes of the file were sent, and how often it was asked for.
func (h *Hub) Served(name string) (bytes int64, requests int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.served[name], h.requests[name]
}

// Leaked returns the credentials that the second server was sent.
func (h *Hub) Leaked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.leaked...)
}

// Left returns how many clients that were held have gone away.
func (h *Hub) Left() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func (h *Hub) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.Token != "" && !h.allowed(r) {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	at := r.URL.EscapedPath()
	switch query := r.URL.Query(); {
	case strings.HasPrefix(at, "/api/models/"+h.Repo+"/revision/"):
		writeJSON(w, map[string]any{"sha": Commit, "siblings": h.siblings()})
	case at == "/api/v1/models/"+h.Repo+"/repo/files":
		writeJSON(w, map[string]any{"Code": 200, "Data": map[string]any{"Files": h.modelScope()}})
	case at == "/api/v1/models/"+h.Repo+"/repo":
		h.file(w, r, query.Get("FilePath"))
	case strings.HasPrefix(at, "/"+h.Repo+"/resolve/"+Commit+"/"):
		h.file(w, r, strings.TrimPrefix(r.URL.Path, "/"+h.Repo+"/resolve/"+Commit+"/"))
	case at == "/plain/"+h.Repo+"/engineshed.json":
		writeJSON(w, map[string]any{"files": h.listed()})
	case strings.HasPrefix(at, "/plain/"+h.Repo+"/"):
		h.file(w, r, strings.TrimPrefix(r.URL.Path, "/plain/"+h.Repo+"/"))
	default:
		http.NotFound(w, r)
	}
}

func (h *Hub) allowed(r *http.Request) bool {
	cookie, err := r.Cookie("m_session_id")
	return r.Header.Get("Authorization") == "Bearer "+h.Token || err == nil && cookie.Value == h.Token
}

func writeJSON(w http.ResponseWriter, value any) { _ = json.NewEncoder(w).Encode(value) }

func (h *Hub) siblings() (all []any) {
	for name, data := range h.Files {
		switch {
		case h.Declared[name] != 0:
			all = append(all, map[string]any{"rfilename": name, "size": h.Declared[name]})
		case h.Unlisted:
			all = append(all, map[string]any{"rfilename": name})
		case len(data) >= Large:
			all = append(all, map[string]any{"rfilename": name, "size": len(data), "lfs": map[string]any{"sha256": sum(data), "size": len(data)}})
		default:
			all = append(all, map[string]any{"rfilename": name, "size": len(data)})
		}
	}
	return all
}

func (h *Hub) modelScope() (all []any) {
	for name, data := range h.Files {
		if dir := path.Dir(name); dir != "." {
			all = append(all, map[string]any{"Path": dir, "Type": "tree"})
		}
		all = append(all, map[string]any{"Path": name, "Type": "blob", "Size": len(data), "Sha256": sum(data)})
	}
	return all
}

func (h *Hub) listed() (all []any) {
	for name, data := range h.Files {
		all = append(all, map[string]any{"path": name, "size": len(data), "sha256": sum(data)})
	}
	return all
}

// file answers with a small file, or redirects to where the large ones are.
func (h *Hub) file(w http.ResponseWriter, r *http.Request, name string) {
	data, ok := h.Files[name]
	switch {
	case !ok || h.Gone:
		http.NotFound(w, r)
	case h.BusyFor > 0:
		h.BusyFor--
		w.Header().Set("Retry-After", h.Retry)
		w.WriteHeader(http.StatusTooManyRequests)
	case len(data) >= Large:
		w.Header().Set("X-Linked-Etag", `"`+sum(data)+`"`)
		http.Redirect(w, r, h.cdn+"/"+name+"?signature=secret", http.StatusFound)
	default:
		h.requests[name]++
		h.served[name] += int64(len(data))
		_, _ = w.Write(data)
	}
}

// serveLarge is the second server.
func (h *Hub) serveLarge(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	h.mu.Lock()
	for _, header := range []string{"Authorization", "Cookie", "Referer"} {
		if value := r.Header.Get(header); value != "" {
			h.leaked = append(h.leaked, header+": "+value)
		}
	}
	h.requests[name]++
	data, hold, after := append([]byte(nil), h.Files[name]...), h.Hold, h.HoldAfter
	if h.Spoil > 0 {
		h.Spoil--
		data[len(data)-1] ^= 1
	}
	cut := int64(-1)
	if h.CutTimes > 0 {
		h.CutTimes--
		cut = h.Cut
	}
	noRanges := h.NoRanges
	h.mu.Unlock()

	from := int64(0)
	if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !noRanges {
		from, _ = strconv.ParseInt(strings.TrimSuffix(text, "-"), 10, 64)
		if from >= int64(len(data)) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
	}
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(data))-from, 10))
	if w.Header().Get("Content-Range") != "" {
		w.WriteHeader(http.StatusPartialContent)
	}
	data = data[from:]
	if cut >= 0 && cut < int64(len(data)) {
		h.send(w, name, data[:cut])
		panic(http.ErrAbortHandler)
	}
	if hold != nil && after < int64(len(data)) {
		h.send(w, name, data[:after])
		select {
		case <-hold:
		case <-r.Context().Done():
			h.Set(func(h *Hub) { h.gone++ })
			return
		}
		data = data[after:]
	}
	h.send(w, name, data)
}

// send writes data in pieces and counts what was written.
func (h *Hub) send(w io.Writer, name string, data []byte) {
	const piece = 64 << 10
	for len(data) > 0 {
		n, err := w.Write(data[:min(piece, len(data))])
		h.mu.Lock()
		h.served[name] += int64(n)
		h.mu.Unlock()
		if err != nil {
			return
		}
		data = data[n:]
	}
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
