package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/node/vllm"
)

// healthClient asks once per connection: an idle connection per engine would be kept for nothing.
func healthClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		Timeout:       healthTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// isHealthy reports whether the engine answers, or has answered before: a busy engine is not a dead one.
func (d *Driver) isHealthy(ctx context.Context, replicaID, addr string, e engine) bool {
	known, _ := d.healthy.Load(replicaID)
	if known == e.identity {
		return true
	}
	var noted identity
	f := d.files(replicaID)
	if ok, _ := f.read(healthyFile, &noted); !ok || noted != e.identity {
		if !d.answers(ctx, addr) || d.isAnothers(replicaID, addr) {
			return false
		}
		_ = f.write(healthyFile, e.identity) // what fails here is only remembered by this process
	}
	d.healthy.Store(replicaID, e.identity)
	return true
}

func (d *Driver) answers(ctx context.Context, addr string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+vllm.HealthPath, nil)
	if err != nil {
		return false
	}
	response, err := d.client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
	return response.StatusCode == http.StatusOK
}

// isAnothers reports whether the socket at addr's port is held by the engine of another replica: while an engine is
// starting, another may answer on the port that it was given. It will end when it finds the port taken.
func (d *Driver) isAnothers(replicaID, addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	sockets := listeners(port)
	engines, err := scanFor([]byte(markerVariable + "="))
	return err != nil || slices.ContainsFunc(engines, func(p process) bool {
		own := p.installation == d.config.Installation && p.replica == replicaID
		return !own && holdsAny(p.pid, sockets)
	})
}

// listeners returns the sockets that listen on the port, as /proc/PID/fd names them.
func listeners(port string) []string {
	const listening = "0A"
	number, _ := strconv.Atoi(port)
	suffix := fmt.Sprintf(":%04X", number)
	var found []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) > 9 && fields[3] == listening && strings.HasSuffix(fields[1], suffix) {
				found = append(found, "socket:["+fields[9]+"]")
			}
		}
		file.Close()
	}
	return found
}

func holdsAny(pid int, sockets []string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(entries, func(entry os.DirEntry) bool {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		return err == nil && slices.Contains(sockets, target)
	})
}
