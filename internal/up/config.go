// Package up runs a whole installation on this machine: Postgres, the control plane and the gateway as its children.
package up

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/secret"
)

// Config says what to run and where. The zero value of a field without a comment about it is refused.
type Config struct {
	DataDir     string
	APIAddr     string // a port 0 in these three stands for a free one
	GatewayAddr string
	PublicAddr  string
	GatewayURL  string // how clients reach GatewayAddr; empty: by that address
	PublicURL   string // how clients reach PublicAddr; empty: by that address
	HTTPSAddr   string // empty: domains are not served with their certificates
	BaseDomain  string // empty: the programs' default
	PolicyDir   string // empty: no policy files
	CatalogDir  string // empty: only the models that come with the programs
	Models      string // where the files of models are kept; empty: engines fetch them themselves
	Sources     string // the file that says how hubs are reached; empty: directly
	CertDir     string // of the certificates that domains name; empty: none

	AllowUpstream []string // addresses that services may have although they are not public
	TrustedProxy  []string // proxies in front of the OpenAPI endpoint
	Region        string
	Programs      string // the folder of controlplane, gateway and vllm-sim

	DatabaseURL string // empty: a Postgres of our own
	VLLMCommand string // empty: vllm from the PATH, else vllm-sim
	SimKnobs    string // arguments for vllm-sim where it is chosen

	// The root access key; empty: the one of the first start, which is made up.
	AccessKeyID     string
	AccessKeySecret secret.Secret

	DrainLimit time.Duration // how long an engine that goes may finish its requests; 0: the programs' default
	HungAfter  time.Duration // how long an engine may be silent; 0: the programs' default

	DetachReplicas bool // leave the engines running when Stop ends the rest
	Insecure       bool // allow plain HTTP on addresses that other machines reach

	Console Console
}

// Console shows a person what happens.
type Console interface {
	// Step shows that something begins and, when do returns, how it ended.
	Step(name string, do func() (note string, err error)) error
	// Notice shows something that happened by itself.
	Notice(text string)
}

// DefaultDataDir is where an installation lives unless told otherwise. Root's is where Postgres and the engines, which
// do not run as root, can enter.
func DefaultDataDir(getenv func(string) string) (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/engineshed", nil
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "engineshed"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("there is no home directory for the data (%w): give --data-dir", err)
	}
	return filepath.Join(home, ".local", "share", "engineshed"), nil
}

// addrTimeout is how long an address may stay taken: the programs of a killed `up` take a moment to end.
const addrTimeout = 3 * time.Second

// claimAddrs makes sure that each address can be listened on, and replaces a port 0 by a free one.
func (c *Config) claimAddrs() error {
	var complaints []error
	for _, claim := range []struct {
		flag string
		addr *string
	}{{"--api-addr", &c.APIAddr}, {"--gateway-addr", &c.GatewayAddr}, {"--public-addr", &c.PublicAddr}} {
		listener, err := listen(*claim.addr, addrTimeout)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			err = fmt.Errorf("%s is in use by another program: stop it, or give another address with %s", *claim.addr, claim.flag)
		case err != nil:
			err = fmt.Errorf("%s %s: %w", claim.flag, *claim.addr, err)
		default:
			defer listener.Close() // all are held until all are known, so that they differ
			*claim.addr = listener.Addr().String()
		}
		complaints = append(complaints, err)
	}
	return errors.Join(complaints...)
}

// listen waits until addr is free.
func listen(addr string, patience time.Duration) (net.Listener, error) {
	for deadline := time.Now().Add(patience); ; {
		listener, err := net.Listen("tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return listener, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// FreeAddrs are loopback addresses that nobody listens on.
func FreeAddrs(count int) ([]string, error) {
	var addrs []string
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		addrs = append(addrs, listener.Addr().String())
	}
	return addrs, nil
}

// urlOf is how a client on this machine reaches addr.
func urlOf(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
