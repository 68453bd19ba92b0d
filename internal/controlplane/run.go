package controlplane

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/api/apig"
	auditapi "github.com/engineshed/engineshed/internal/api/audit"
	"github.com/engineshed/engineshed/internal/api/gpdb"
	"github.com/engineshed/engineshed/internal/api/ram"
	"github.com/engineshed/engineshed/internal/api/resourcemanager"
	"github.com/engineshed/engineshed/internal/api/sts"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/iam/directory"
	"github.com/engineshed/engineshed/internal/iam/session"
	"github.com/engineshed/engineshed/internal/idempotency"
	"github.com/engineshed/engineshed/internal/ingress"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
	"github.com/engineshed/engineshed/internal/modelapi"
	"github.com/engineshed/engineshed/internal/modelservice"
	"github.com/engineshed/engineshed/internal/operator"
	"github.com/engineshed/engineshed/internal/postgres"
	"github.com/engineshed/engineshed/internal/publish"
	"github.com/engineshed/engineshed/internal/resource"
	"github.com/engineshed/engineshed/internal/resourcegroup"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
	"github.com/engineshed/engineshed/internal/telemetry"
	"github.com/engineshed/engineshed/internal/trial"
	"github.com/engineshed/engineshed/internal/usage"
)

// program is the assembled control plane.
type program struct {
	cfg       Config
	log       *slog.Logger
	db        *pgxpool.Pool
	master    *secret.Box
	snapshot  *secret.Box
	iam       *iam.Store
	access    *access.Authorizer
	sessions  *session.Sessions
	instances *instance.Instances
	services  *modelservice.Services
	operators *operator.Keys
	ingress   *ingress.Ingress
	consumers *consumer.Consumers
	upstreams *aiservice.Services
	apis      *modelapi.APIs
	publisher *publish.Publisher
	usage     *usage.Usage
	trail     *audit.Trail
	signIns   *audit.SignIns
	jobs      *jobs.Client
	catalog   *catalog.Catalog
}

// sealInterval is how long a row of the audit trail waits for its seal, where no transaction holds it up.
const sealInterval = 3 * time.Second

// signInInterval is how often counts of failed sign-ins are written down.
const signInInterval = 5 * time.Second

// simulatedNodes is how many AI nodes a host without accelerators is seeded with.
const simulatedNodes = 4

// Run runs the control plane until ctx ends, then stops it in order: requests, jobs and, when asked, engines.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	p, err := assemble(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer p.db.Close()
	account, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if cfg.worker() {
		w, err := p.newWorker(ctx)
		if err != nil {
			return err
		}
		if err := w.seed(ctx, account); err != nil {
			return err
		}
		group.Go(func() error { return w.run(ctx) })
	}
	if cfg.api() {
		server, listener, err := p.listen()
		if err != nil {
			return err
		}
		group.Go(func() error { return p.serve(ctx, server, listener) })
	}
	group.Go(func() error { return p.every(ctx, time.Minute, "housekeeping", p.housekeeping) })
	group.Go(func() error { return p.every(ctx, signInInterval, "count failed sign-ins", p.signIns.Flush) })
	group.Go(func() error { return p.every(ctx, sealInterval, "seal the audit trail", p.seal) })
	group.Go(func() error { return p.reloadOnHangup(ctx) })
	group.Go(func() error { return p.admin(ctx) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func assemble(ctx context.Context, cfg Config, log *slog.Logger) (*program, error) {
	p := &program{cfg: cfg, log: log}
	var err error
	if p.master, err = secret.Load(cfg.MasterKeyFile); err != nil {
		return nil, fmt.Errorf("--master-key-file: %w", err)
	}
	if p.snapshot, err = secret.Load(cfg.SnapshotKeyFile); err != nil {
		return nil, fmt.Errorf("--snapshot-key-file: %w", err)
	}
	if p.catalog, err = catalog.Open(cfg.CatalogDir); err != nil {
		return nil, fmt.Errorf("--catalog: %w", err)
	}
	if p.db, err = postgres.Open(ctx, cfg.DatabaseURL); err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if err := postgres.CheckControlRights(ctx, p.db); err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if p.jobs, err = jobs.NewInserter(p.db); err != nil {
		return nil, err
	}
	bell, err := jobs.NewBell(p.db)
	if err != nil {
		return nil, err
	}
	p.iam = iam.New(p.db, p.master)
	p.access = access.NewAuthorizer(p.iam, p.master, p.log)
	p.sessions = session.New(p.db, p.master, p.access)
	p.usage = usage.New(p.db, time.Now)
	p.trail = audit.NewTrail(p.db, p.master, time.Now)
	p.signIns = audit.NewSignIns(p.db, time.Now)
	p.instances = instance.New(p.db, cfg.Region)
	p.services = modelservice.New(modelservice.Config{
		DB: p.db, Jobs: p.jobs, Bell: bell, Master: p.master, Snapshot: p.snapshot,
		GatewayURL: cfg.GatewayURL, PublicGatewayURL: cfg.PublicGatewayURL,
		HostLostAfter: cfg.HostLostAfter, Catalog: p.catalog,
	})
	p.operators = operator.New(p.db, p.master, cfg.GatewayURL)
	return p, p.assembleModelAPIs()
}

// assembleModelAPIs makes what publishes Model APIs and everything they are made of.
func (p *program) assembleModelAPIs() error {
	allowed, err := snapshot.ParseAllowedUpstream(p.cfg.AllowUpstream)
	if err != nil {
		return fmt.Errorf("--allow-upstream: %w", err)
	}
	p.ingress = ingress.New(ingress.Config{
		DB: p.db, Jobs: p.jobs, Snapshot: p.snapshot, BaseDomain: p.cfg.BaseDomain, CertDir: p.cfg.CertDir,
	})
	p.consumers = consumer.New(consumer.Config{DB: p.db, Jobs: p.jobs, Master: p.master, Snapshot: p.snapshot})
	p.upstreams = aiservice.New(aiservice.Config{DB: p.db, Jobs: p.jobs, Master: p.master, Snapshot: p.snapshot, Allowed: allowed})
	p.apis = modelapi.New(modelapi.Config{DB: p.db, Jobs: p.jobs, Rules: p.consumers, SubDomain: p.ingress.SubDomain})
	p.publisher = publish.NewPublisher(p.db, p.jobs, p.operators, p.ingress, p.consumers, p.upstreams, p.apis)
	return nil
}

// prepare brings what the database must hold before the first call, and returns the root account's id.
func (p *program) prepare(ctx context.Context) (account string, err error) {
	if err := errors.Join(p.iam.MaintainNonces(ctx), p.trail.Maintain(ctx, p.cfg.AuditRetention)); err != nil {
		return "", err
	}
	if p.cfg.RootKeyFile != "" {
		root, err := readRootKey(p.cfg.RootKeyFile)
		if err != nil {
			return "", fmt.Errorf("--root-key-file: %w", err)
		}
		if err := p.iam.EnsureRoot(ctx, root); err != nil {
			return "", err
		}
		account = root.AccountID
	}
	return account, p.applyPolicies(ctx)
}

func readRootKey(path string) (iam.RootSpec, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return iam.RootSpec{}, err
	}
	var file struct {
		AccountID       string `json:"accountId"`
		AccessKeyID     string `json:"accessKeyId"`
		AccessKeySecret string `json:"accessKeySecret"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return iam.RootSpec{}, fmt.Errorf("%s: %w", path, err)
	}
	return iam.RootSpec{
		AccountID: file.AccountID, AccountName: "root", KeyID: file.AccessKeyID, Secret: secret.New(file.AccessKeySecret),
	}, nil
}

func (p *program) applyPolicies(ctx context.Context) error {
	if _, err := p.iam.ApplySystem(ctx); err != nil {
		return fmt.Errorf("apply the system policies: %w", err)
	}
	if p.cfg.PolicyDir == "" {
		return nil
	}
	files, err := iam.LoadDir(os.DirFS(p.cfg.PolicyDir), os.Getenv)
	if err != nil {
		return fmt.Errorf("read the policy files of %s: %w", p.cfg.PolicyDir, err)
	}
	differences, err := p.iam.Apply(ctx, files)
	if err != nil {
		return fmt.Errorf("apply the policy files of %s: %w", p.cfg.PolicyDir, err)
	}
	p.log.InfoContext(ctx, "policy files applied", slog.String("dir", p.cfg.PolicyDir), slog.Int("changes", len(differences)))
	return nil
}

// reloadOnHangup applies the policy files and reads the catalogue again on SIGHUP. Files that are refused change nothing.
func (p *program) reloadOnHangup(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hangup:
			if err := p.applyPolicies(ctx); err != nil {
				p.log.ErrorContext(ctx, "policy files are refused; what was in force stays", slog.Any("error", err))
			}
			if err := p.catalog.Reload(); err != nil {
				p.log.ErrorContext(ctx, "the catalogue is refused; what was in force stays", slog.Any("error", err))
			}
		}
	}
}

func (p *program) listen() (*http.Server, net.Listener, error) {
	handler, err := p.handler()
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", p.cfg.Addr)
	if err != nil {
		return nil, nil, fmt.Errorf("--addr: %w", err)
	}
	p.log.Info("listening", slog.String("addr", listener.Addr().String()))
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}, listener, nil
}

// serve answers until ctx ends, then lets the calls under way end.
func (p *program) serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.StopGrace)
		defer cancel()
		stopped <- server.Shutdown(grace)
	})
	var err error
	if p.cfg.TLSCert != "" {
		err = server.ServeTLS(listener, p.cfg.TLSCert, p.cfg.TLSKey)
	} else {
		err = server.Serve(listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func (p *program) handler() (http.Handler, error) {
	modelServices, err := gpdb.Product(gpdb.Config{
		Services: p.services, Instances: p.instances, Operators: p.operators, Usage: p.usage, Models: p.catalog.Names, Region: p.cfg.Region,
	})
	if err != nil {
		return nil, err
	}
	kinds := slices.Concat(ingress.Kinds, consumer.Kinds, []resource.Kind{aiservice.Kind, modelapi.Kind})
	modelAPIs, err := apig.Product(apig.Config{
		APIs: p.apis, Routes: p.apis, Gateways: p.ingress, Environments: p.ingress, Domains: p.ingress,
		Services: p.upstreams, Consumers: p.consumers, Groups: p.consumers, Rules: p.consumers,
		Resources: resource.New(p.db, kinds...),
		Trials: trial.New(trial.Config{
			APIs: p.apis, Consumers: p.consumers, Audit: p.db, Gateway: cmp.Or(p.cfg.DebugGatewayURL, p.cfg.GatewayURL),
		}),
		Usage: p.usage,
	})
	if err != nil {
		return nil, err
	}
	all := resource.New(p.db, append(kinds, resource.Instances)...)
	identities, err := p.identities(all)
	if err != nil {
		return nil, err
	}
	proxies, err := p.cfg.trustedProxies()
	if err != nil {
		return nil, err
	}
	trail, err := auditapi.Product(p.trail)
	if err != nil {
		return nil, err
	}
	return api.New(api.Config{
		Region: p.cfg.Region, Products: append(identities, modelServices, modelAPIs, trail), Verifier: signature.New(p.iam, p.iam, time.Now),
		Authorizer: p.access, Audit: p.db, SignIns: p.signIns, Log: p.log, Facts: all, TrustedProxies: proxies,
	})
}

// identities are the products that say who may do what.
func (p *program) identities(resources *resource.Resources) ([]api.Product, error) {
	people := directory.New(p.db, p.master)
	users, err := ram.Product(people, p.access)
	if err != nil {
		return nil, err
	}
	sessions, err := sts.Product(p.sessions)
	if err != nil {
		return nil, err
	}
	groups, err := resourcemanager.Product(resourcemanager.Config{
		Groups: resourcegroup.New(p.db, append(resources.Tables(), "model_service")...), Resources: resources, Directory: people, Region: p.cfg.Region,
	})
	return []api.Product{users, sessions, groups}, err
}

func (p *program) admin(ctx context.Context) error {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), signInMetrics{p.signIns})
	_, err := telemetry.Admin(ctx, p.cfg.AdminAddr, metrics, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if err := p.db.Ping(ctx); err != nil {
			return fmt.Errorf("the database does not answer: %w", err)
		}
		return nil
	})
	return err
}

// every does work at once and then at each interval, and logs what fails.
func (p *program) every(ctx context.Context, interval time.Duration, name string, work func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := work(ctx); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "periodic work failed", slog.String("work", name), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// housekeeping drops what is kept for a limited time only.
func (p *program) housekeeping(ctx context.Context) error {
	return errors.Join(p.iam.MaintainNonces(ctx), publish.Forget(ctx, p.db), idempotency.Forget(ctx, p.db), p.services.Forget(ctx),
		p.sessions.Forget(ctx),
		p.usage.Maintain(ctx, p.cfg.UsageRetention), p.trail.Maintain(ctx, p.cfg.AuditRetention), p.signIns.Forget(ctx))
}

func (p *program) seal(ctx context.Context) error {
	_, err := p.trail.Seal(ctx)
	return err
}
