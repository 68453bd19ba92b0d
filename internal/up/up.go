package up

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Credentials is what credentials.json says: all that a client on this machine needs.
type Credentials struct {
	AccountID       string `json:"accountId"`
	AccessKeyID     string `json:"accessKeyId"`
	AccessKeySecret string `json:"accessKeySecret"`
	Endpoint        string `json:"endpoint"`
	Gateway         string `json:"gateway"`
	RegionID        string `json:"regionId"`
	DBInstanceID    string `json:"dbInstanceId"`
}

// Installation is everything that runs on this machine.
type Installation struct {
	Credentials     Credentials
	CredentialsFile string
	PublicGateway   string
	Logs            string
	Engine          string // the engine's command, for a person
	KeyMade         bool   // the root key was made up by this start, so nobody has seen its secret

	config                           Config
	dir                              dataDir
	state                            state
	root                             rootKey
	id                               string
	adminURL, controlURL, gatewayURL string
	engineCommand                    string

	mu       sync.Mutex
	children []*kept // in the order they are to be stopped in, last first
}

// Start starts everything and returns when it is ready. What it has started when it fails is stopped again.
func Start(ctx context.Context, config Config) (*Installation, error) {
	i := &Installation{config: config}
	if err := i.start(ctx); err != nil {
		i.Stop()
		return nil, err
	}
	return i, nil
}

func (i *Installation) start(ctx context.Context) error {
	if err := i.prepare(); err != nil {
		return err
	}
	step := i.config.Console.Step
	err := step("Postgres", func() (string, error) { return i.startDatabase(ctx) })
	if err != nil {
		return err
	}
	err = step("Database schema", func() (string, error) { return "up to date", i.migrate(ctx) })
	if err != nil {
		return err
	}
	err = step("Control plane and gateway", func() (string, error) { return "ready", i.startPrograms(ctx) })
	if err != nil {
		return err
	}
	if err := i.readInstallation(ctx); err != nil {
		return err
	}
	i.CredentialsFile = i.dir.file("credentials.json")
	return writeJSON(i.CredentialsFile, i.Credentials)
}

// prepare does everything that needs no child.
func (i *Installation) prepare() (err error) {
	if i.dir, err = openDataDir(i.config.DataDir, i.config.DatabaseURL == ""); err != nil {
		return err
	}
	if err := i.config.claimAddrs(); err != nil {
		return err
	}
	if i.state, _, err = readOrMake(i.dir.file("state.json"), newState); err != nil {
		return err
	}
	if i.root, i.KeyMade, err = i.dir.rootKey(i.config); err != nil {
		return err
	}
	if i.config.GatewayURL == "" {
		i.config.GatewayURL = urlOf(i.config.GatewayAddr)
	}
	if i.config.PublicURL == "" {
		i.config.PublicURL = urlOf(i.config.PublicAddr)
	}
	i.Logs, i.PublicGateway = i.dir.file("logs"), i.config.PublicURL
	i.Credentials = Credentials{
		AccountID: i.root.AccountID, AccessKeyID: i.root.AccessKeyID, AccessKeySecret: i.root.AccessKeySecret,
		Endpoint: urlOf(i.config.APIAddr), Gateway: i.config.GatewayURL, RegionID: i.config.Region,
	}
	return errors.Join(i.dir.makeKeys(), i.chooseEngine())
}

func (i *Installation) startPrograms(ctx context.Context) error {
	admins, err := FreeAddrs(2)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return i.startProgram(ctx, i.controlplane(admins[0]), graceControl) })
	group.Go(func() error { return i.startProgram(ctx, i.gateway(admins[1]), graceGateway) })
	return group.Wait()
}

// keep starts a child and remembers it for Stop.
func (i *Installation) keep(ctx context.Context, k *kept) error {
	k.console = i.config.Console
	if err := k.keep(ctx); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.children = append(i.children, k)
	return nil
}

// stopOrder: the gateway finishes its requests while the engines still run; the database goes last.
var stopOrder = []string{"gateway", "controlplane", "Postgres"}

// Stop ends everything in order: the gateway drains, the engines stop (unless they are to be detached), then the workers,
// the API and Postgres. Rows stay, and the next Start starts the same services again. Each child has a bounded time.
func (i *Installation) Stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	slices.SortFunc(i.children, func(a, b *kept) int {
		return slices.Index(stopOrder, a.name) - slices.Index(stopOrder, b.name)
	})
	for _, k := range i.children {
		k.stop()
	}
	i.children = nil
	if i.dir.lock != nil {
		i.dir.lock.Close()
	}
}

// Reload makes the control plane read the policy files again.
func (i *Installation) Reload() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, k := range i.children {
		if k.name == "controlplane" {
			k.signal(syscall.SIGHUP)
		}
	}
}

// Engines are the process ids of this installation's engines, found by the marker in their environment.
func (i *Installation) Engines() ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	marker := []byte("ENGINESHED_REPLICA=" + i.id + "/")
	var engines []int
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environ, marker) {
			continue // another user's process, one that has just ended, or not an engine of ours
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		engines = append(engines, pid)
	}
	return engines, nil
}
