// Package gateway is the data plane: it checks who asks, chooses an engine and streams its answer.
package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/gateway/downstream"
	"github.com/engineshed/engineshed/internal/gateway/identity"
	"github.com/engineshed/engineshed/internal/gateway/record"
	"github.com/engineshed/engineshed/internal/route"
	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/snapshot"
	"github.com/engineshed/engineshed/internal/telemetry"
)

// Settings are what a gateway is started with.
type Settings struct {
	DatabaseURL      string
	Addr             string // where every service is served
	PublicAddr       string // where services with a public connection are served too; "": nowhere
	HTTPSAddr        string // where Model APIs are served with their domains' certificates; "": nowhere
	AdminAddr        string // health, readiness and metrics; "": nowhere
	TLSCert, TLSKey  string // files; empty: plain HTTP
	Insecure         bool   // plain HTTP beyond this machine is wanted
	SnapshotKeyFile  string
	DataDir          string        // holds the snapshot file; "": none is kept
	MaxBody          int64         // bytes of a request's body
	MaxConcurrency   int           // requests that run at once; 0: no limit
	MaxQueue         int           // requests that wait for their turn beyond that
	MaxBodyMemory    int64         // bytes of all bodies that are held at once; 0: no limit
	BodyIdleTimeout  time.Duration // how long a body may stop coming; 0: for ever
	WriteIdleTimeout time.Duration // how long a client may stop reading its answer; 0: for ever
	DrainNotice      time.Duration // how long requests are taken when the end is announced, until nobody sends more
	DrainTimeout     time.Duration // how long the requests under way may then take
	GatewayID        string        // the one gateway whose Model APIs are served; "": all
	RequestLog       io.Writer     `json:"-"` // a line for each request to a Model API with AI statistics; nil: none
	OTLPEndpoint     string        // of a collector of traces: http://host:4318; "": none
	AllowUpstream    []string      // addresses that are not public and may be reached: CIDR or ip:port
}

// Gateway is a gateway that listens. Run serves.
type Gateway struct {
	settings   Settings
	log        *slog.Logger
	load       *load
	store      *config.Store
	records    *record.Recorder
	tracer     *record.Tracer
	running    atomic.Int64
	servers    []server
	adminAddr  string
	stopAdmin  context.CancelFunc
	draining   atomic.Bool
	websockets sync.WaitGroup
	requests   context.Context // of every request; ends when the gateway has drained
	endAll     context.CancelFunc
}

type server struct {
	use      use
	http     *downstream.Server
	listener net.Listener
}

// use is what a listener is for.
type use int

const (
	privateUse use = iota
	publicUse
	httpsUse
)

// Open checks the settings, all at once, and listens. It connects to nothing.
func Open(s Settings, log *slog.Logger) (*Gateway, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	allowed, err := snapshot.ParseAllowedUpstream(s.AllowUpstream)
	if err != nil {
		return nil, err
	}
	box, err := secret.Load(s.SnapshotKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read --snapshot-key-file: %w", err)
	}
	store, err := config.Open(config.Settings{
		DatabaseURL: s.DatabaseURL, DataDir: s.DataDir, SnapshotKey: box, GatewayID: s.GatewayID, Guard: allowed,
	}, log)
	if err != nil {
		return nil, err
	}
	records, err := record.Open(s.DatabaseURL, store.ProcessID(), cmp.Or[io.Writer](s.RequestLog, io.Discard), log)
	if err != nil {
		store.Close()
		return nil, err
	}
	tracer, err := record.NewTracer(s.OTLPEndpoint, store.ProcessID(), log)
	if err != nil {
		store.Close()
		records.Close()
		return nil, err
	}
	g := &Gateway{settings: s, log: log, load: newLoad(s), store: store, records: records, tracer: tracer}
	g.requests, g.endAll = context.WithCancel(context.Background())
	if err := g.listen(); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (s Settings) validate() error {
	var complaints []error
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Errorf(format, args...)) }
	if _, err := snapshot.ParseAllowedUpstream(s.AllowUpstream); err != nil {
		complaints = append(complaints, err)
	}
	if s.DatabaseURL == "" {
		complain("GATEWAY_DATABASE_URL is not set: give the connection string of the role engineshed_gateway")
	}
	if s.Addr == "" {
		complain("--addr is required")
	}
	if s.OTLPEndpoint != "" {
		if err := record.CheckEndpoint(s.OTLPEndpoint); err != nil {
			complain("--otlp-endpoint: %w", err)
		}
	}
	if s.SnapshotKeyFile == "" {
		complain("--snapshot-key-file is required: the file that the control plane publishes under")
	}
	if s.MaxBody <= 0 {
		complain("--max-body-bytes must be positive")
	}
	if s.MaxConcurrency < 0 || s.MaxQueue < 0 || s.MaxQueue > 0 && s.MaxConcurrency == 0 {
		complain("--max-concurrency and --max-queue cannot be negative, and there is a queue only where concurrency is limited")
	}
	if s.MaxBodyMemory != 0 && s.MaxBodyMemory < s.MaxBody {
		complain("--max-body-memory must hold one body of --max-body-bytes at least")
	}
	if min(s.BodyIdleTimeout, s.WriteIdleTimeout) < 0 {
		complain("--body-idle-timeout and --write-idle-timeout cannot be negative")
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		complain("--tls-cert and --tls-key come together")
	}
	for _, addr := range []string{s.Addr, s.PublicAddr} {
		if addr != "" && s.TLSCert == "" && !s.Insecure && !isLoopback(addr) {
			complain("%s is reachable from other machines and would carry keys in clear: "+
				"give --tls-cert and --tls-key, or --insecure if that is meant", addr)
		}
	}
	return errors.Join(complaints...)
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (g *Gateway) listen() error {
	nobody := new(config.Traffic)
	bounded := &boundedLog{log: g.log}
	tokens, nonces := new(identity.Memory[*config.Consumer]), identity.NewNonces()
	httpsPort := ""
	for _, l := range []struct {
		use  use
		addr string
	}{{httpsUse, g.settings.HTTPSAddr}, {privateUse, g.settings.Addr}, {publicUse, g.settings.PublicAddr}} {
		if l.addr == "" {
			continue
		}
		h := &handler{
			current: g.store.Serving, public: l.use != privateUse, apis: l.use != publicUse, httpsPort: httpsPort,
			maxBody: g.settings.MaxBody, load: g.load, nobody: nobody, log: bounded, records: g.records, tracer: g.tracer, running: &g.running,
			websockets: &g.websockets, ending: g.requests,
			tokens: tokens, nonces: nonces,
		}
		if err := g.serveOn(l.use, l.addr, h); err != nil {
			return err
		}
		if _, port, _ := net.SplitHostPort(g.addr(httpsUse)); port != "" && port != "443" {
			httpsPort = ":" + port
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{g.store, nobody, time.Now()}, loadCollector{g.load, g.store.Current}, g.records,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	ctx, stop := context.WithCancel(context.Background())
	g.stopAdmin = stop
	addr, err := telemetry.Admin(ctx, g.settings.AdminAddr, registry, g.ready)
	g.adminAddr = addr
	return err
}

func (g *Gateway) serveOn(use use, addr string, h *handler) error {
	tlsConfig, err := g.tlsConfig(use)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	if use != httpsUse && len(tlsConfig.Certificates) == 0 {
		tlsConfig = nil
	}
	g.servers = append(g.servers, server{use, &downstream.Server{
		Handler:     g.load.clients.Handler(g.sendingAway(h)),
		BaseContext: g.requests,
		TLS:         tlsConfig,
		IdleTimeout: 2 * time.Minute,
		Refused:     h.refusedFraming,
		ErrorLog:    log.New(h.log, "", 0),
	}, g.load.clients.Listen(listener)})
	return nil
}

// tlsConfig holds the certificate of the settings, if there is one. The listener for domains takes theirs first.
func (g *Gateway) tlsConfig(use use) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if g.settings.TLSCert != "" {
		certificate, err := tls.LoadX509KeyPair(g.settings.TLSCert, g.settings.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("read --tls-cert and --tls-key: %w", err)
		}
		c.Certificates = []tls.Certificate{certificate}
	}
	if use == httpsUse {
		c.GetConfigForClient = g.domainTLS
	}
	return c, nil
}

var errNoCertificate = errors.New("no domain with a certificate has this name")

// domainTLS is the configuration of the domain that a client names.
func (g *Gateway) domainTLS(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if cfg := g.store.Current(); cfg != nil {
		if d := cfg.Domain(route.Host(hello.ServerName)); d != nil && d.TLS != nil {
			return d.TLS, nil
		}
	}
	if g.settings.TLSCert == "" {
		return nil, errNoCertificate
	}
	return nil, nil //nolint:nilnil // tls.Config says: the original one
}

// Addr is where every service is served.
func (g *Gateway) Addr() string { return g.addr(privateUse) }

// PublicAddr is where public services are served; "" without such a listener.
func (g *Gateway) PublicAddr() string { return g.addr(publicUse) }

// HTTPSAddr is where domains are served with their certificates; "" without such a listener.
func (g *Gateway) HTTPSAddr() string { return g.addr(httpsUse) }

func (g *Gateway) addr(use use) string {
	for _, s := range g.servers {
		if s.use == use {
			return s.listener.Addr().String()
		}
	}
	return ""
}

// AdminAddr is where health, readiness and metrics are; "" without such a listener.
func (g *Gateway) AdminAddr() string { return g.adminAddr }

// ready says whether requests should come here: there is a configuration, however old, and no end in sight.
func (g *Gateway) ready(context.Context) error {
	switch {
	case g.draining.Load():
		return errors.New("the gateway is shutting down")
	case g.store.Current() == nil:
		return errors.New("the gateway has no configuration yet: is the database there?")
	}
	return nil
}

// Run serves until ctx ends, then lets running requests finish within the drain timeout.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.close()
	g.log.Info("gateway listening", "addr", g.Addr(), "publicAddr", g.PublicAddr(), "httpsAddr", g.HTTPSAddr(),
		"adminAddr", g.AdminAddr())
	group, ctx := errgroup.WithContext(ctx)
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx)) // revocations count while draining, too
	group.Go(func() error { return g.store.Run(storeCtx) })
	recordsCtx, stopRecords := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return g.records.Run(recordsCtx) })
	for _, s := range g.servers {
		group.Go(func() error { return s.serve() })
	}
	group.Go(func() error {
		<-ctx.Done()
		defer stopStore()
		defer stopRecords()
		g.drain()
		g.cut()
		return nil
	})
	return group.Wait()
}

func (s server) serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// sendingAway tells clients to come back on another connection, which leads elsewhere, while the gateway shuts down.
func (g *Gateway) sendingAway(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.draining.Load() && r.Header["Upgrade"] == nil {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

func (g *Gateway) drain() {
	g.draining.Store(true)
	g.log.Info("gateway draining", "notice", g.settings.DrainNotice, "timeout", g.settings.DrainTimeout)
	time.Sleep(g.settings.DrainNotice)
	ctx, cancel := context.WithTimeout(context.Background(), g.settings.DrainTimeout)
	defer cancel()
	var group errgroup.Group
	for _, s := range g.servers {
		group.Go(func() error { return s.http.Shutdown(ctx) })
	}
	err := group.Wait()
	if err == nil {
		err = g.awaitWebSockets(ctx)
	}
	if err != nil {
		g.log.Warn("requests were still running when the drain timeout ended; they are cut", "error", err)
		g.sayGoodbye()
	}
}

// goodbye is how long the requests that are cut have for their last words.
const goodbye = time.Second

// sayGoodbye ends the requests and waits until they have.
func (g *Gateway) sayGoodbye() {
	g.endAll()
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	var group errgroup.Group
	for _, s := range g.servers {
		group.Go(func() error { return s.http.Shutdown(ctx) })
	}
	_ = group.Wait() // who does not end now is cut without a word
}

// awaitWebSockets waits for the connections that the servers no longer know. No new ones can come.
func (g *Gateway) awaitWebSockets(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		g.websockets.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	cutTimeout    = 2 * time.Second
	tracesTimeout = 3 * time.Second
)

// cut ends the requests that are left and waits until they are accounted for.
func (g *Gateway) cut() {
	g.endAll()
	for _, s := range g.servers {
		_ = s.http.Close()
	}
	for until := time.Now().Add(cutTimeout); g.running.Load() > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

func (g *Gateway) close() {
	g.endAll()
	for _, s := range g.servers {
		_ = s.http.Close()
		_ = s.listener.Close()
	}
	if g.stopAdmin != nil {
		g.stopAdmin()
	}
	g.store.Close()
	g.records.Close()
	ctx, cancel := context.WithTimeout(context.Background(), tracesTimeout)
	defer cancel()
	g.tracer.Close(ctx)
}
