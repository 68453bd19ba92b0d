// Package controlplane assembles the control plane: the OpenAPI endpoint, the workers, or both.
package controlplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/config"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/jobs"
)

// Config is everything a control plane is told: flags, their ENGINESHED_ variables, DATABASE_URL and VLLM_COMMAND.
type Config struct {
	Addr              string
	AdminAddr         string
	Role              string // api, worker or both
	Host              string // names this machine; its worker works the queue of that name
	EngineAddr        string // the address engines listen on
	EngineUser        string // "": an unprivileged default when running as root
	DataDir           string // of the engines
	Models            string // "": engines fetch their models themselves
	ModelSources      string // file: how hubs are reached; "": directly
	MasterKeyFile     string
	SnapshotKeyFile   string
	PolicyDir         string
	CatalogDir        string // "": only the models that come with the program
	RootKeyFile       string // JSON: accountId, accessKeyId, accessKeySecret
	Region            string
	GatewayURL        string
	PublicGatewayURL  string
	DebugGatewayURL   string
	BaseDomain        string   // environments answer at env-….BaseDomain
	CertDir           string   // NAME.crt and NAME.key of the certificates that domains name
	AllowUpstream     []string // CIDR blocks and ip:port pairs that services may have although they are not public
	TrustedProxy      []string // CIDR blocks and addresses of proxies in front of the OpenAPI endpoint
	TLSCert           string
	TLSKey            string
	Insecure          bool
	Seed              bool
	StopEnginesOnExit bool
	StopGrace         time.Duration
	DrainLimit        time.Duration
	HungAfter         time.Duration
	HostLostAfter     time.Duration
	UsageRetention    time.Duration
	AuditRetention    time.Duration

	DatabaseURL string
	VLLMCommand string
}

// Parse reads args and the environment, and returns every complaint at once.
func Parse(args []string, getenv func(string) string) (Config, error) {
	c := Config{DatabaseURL: getenv("DATABASE_URL"), VLLMCommand: getenv("VLLM_COMMAND")}
	flags := pflag.NewFlagSet("controlplane", pflag.ContinueOnError)
	c.define(flags)
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	return c, errors.Join(config.FromEnv(flags, getenv), c.check())
}

func (c *Config) define(flags *pflag.FlagSet) {
	hostname, _ := os.Hostname()
	flags.StringVar(&c.Addr, "addr", "127.0.0.1:8080", "address of the OpenAPI endpoint")
	flags.StringVar(&c.AdminAddr, "admin-addr", "", "address of /healthz, /readyz and /metrics; empty: none")
	flags.StringVar(&c.Role, "role", "both", "api, worker or both")
	flags.StringVar(&c.Host, "host", jobs.HostName(hostname), "name of this host: a-z, 0-9 and dashes")
	flags.StringVar(&c.EngineAddr, "engine-addr", "127.0.0.1", "address the engines of this host listen on")
	flags.StringVar(&c.EngineUser, "engine-user", "", "user that runs engines when this process is root; empty: engineshed or nobody")
	flags.StringVar(&c.DataDir, "data-dir", "", "directory of the engines' files (worker)")
	flags.StringVar(&c.Models, "models", "", "directory where the worker keeps the files of models, fetched once for all engines; empty: engines fetch them themselves")
	flags.StringVar(&c.ModelSources, "model-sources", "", "file that says how hubs are reached: endpoints, proxies, token files")
	flags.StringVar(&c.MasterKeyFile, "master-key-file", "", "key file that seals secrets in the database")
	flags.StringVar(&c.SnapshotKeyFile, "snapshot-key-file", "", "key file that control plane and gateways share")
	flags.StringVar(&c.PolicyDir, "policy-dir", "", "directory of policy files, applied at start and on SIGHUP")
	flags.StringVar(&c.CatalogDir, "catalog", "", "directory of your own models' files, read at start and on SIGHUP; the same for every control plane and worker")
	flags.StringVar(&c.RootKeyFile, "root-key-file", "", "JSON file with the first account and its root key: accountId, accessKeyId, accessKeySecret")
	flags.StringVar(&c.Region, "region", "cn-hangzhou", "region this endpoint serves")
	flags.StringVar(&c.GatewayURL, "gateway-url", "http://127.0.0.1:8090", "base URL of the gateway's private listener")
	flags.StringVar(&c.PublicGatewayURL, "public-gateway-url", "http://127.0.0.1:8091", "base URL of the gateway's public listener")
	flags.StringVar(&c.DebugGatewayURL, "debug-gateway-url", "",
		"base URL at which this process itself reaches the gateway's private listener, for DebugHttpApi (default: --gateway-url)")
	flags.StringVar(&c.BaseDomain, "base-domain", "engineshed.localhost", "domain of the environments' own host names")
	flags.StringVar(&c.CertDir, "cert-dir", "", "directory of the certificates that domains name: NAME.crt and NAME.key")
	flags.StringSliceVar(&c.AllowUpstream, "allow-upstream", nil,
		"address that a service may have although it is not public: CIDR or ip:port, repeat for more; the gateway needs the same")
	flags.StringSliceVar(&c.TrustedProxy, "trusted-proxy", nil,
		"proxy in front of the OpenAPI endpoint whose X-Forwarded-For and X-Forwarded-Proto are believed: CIDR or IP address, repeat for more")
	flags.StringVar(&c.TLSCert, "tls-cert", "", "certificate file of the OpenAPI endpoint")
	flags.StringVar(&c.TLSKey, "tls-key", "", "key file of the certificate")
	flags.BoolVar(&c.Insecure, "insecure", false, "allow plain HTTP on an address that is not loopback")
	flags.BoolVar(&c.Seed, "seed", false, "make a first DB instance with AI nodes on this host, and a first gateway")
	flags.BoolVar(&c.StopEnginesOnExit, "stop-engines-on-exit", false, "end this host's engines when the worker stops; they start again with it")
	flags.DurationVar(&c.UsageRetention, "usage-retention", 30*24*time.Hour, "how long usage records are kept, a day at least; they are dropped by the day")
	flags.DurationVar(&c.AuditRetention, "audit-retention", audit.DefaultRetention, "how long the audit trail is kept, a day at least; it is dropped by the month")
	flags.DurationVar(&c.DrainLimit, "drain-limit", time.Minute, "how long an engine that goes may finish its requests before it is asked to end")
	flags.DurationVar(&c.HungAfter, "hung-after", 30*time.Second,
		"how long an engine may be silent before it is started again; one that answers and makes no progress is given ten times as long")
	flags.DurationVar(&c.HostLostAfter, "host-lost-after", 30*time.Second, "how long a host may be silent before its replicas move to spare AI nodes")
	flags.DurationVar(&c.StopGrace, "stop-grace", 10*time.Second, "how long requests, jobs and engines get to end")
}

func (c *Config) api() bool    { return c.Role != "worker" }
func (c *Config) worker() bool { return c.Role != "api" }

func (c *Config) check() error {
	var complaints []error
	complain := func(wrong bool, format string, args ...any) {
		if wrong {
			complaints = append(complaints, fmt.Errorf(format, args...))
		}
	}
	complain(c.DatabaseURL == "", "DATABASE_URL is not set: give the URL of the role engineshed_control")
	complain(c.Role != "api" && c.Role != "worker" && c.Role != "both", "--role %s: use api, worker or both", c.Role)
	complain(!jobs.ValidHost(c.Host), "--host %s: use at most 58 of a-z, 0-9 and single dashes", c.Host)
	complain(c.MasterKeyFile == "", "--master-key-file is required")
	complain(c.SnapshotKeyFile == "", "--snapshot-key-file is required")
	complain(c.worker() && c.DataDir == "", "--data-dir is required for a worker")
	complain(c.ModelSources != "" && c.Models == "", "--model-sources is of no use without --models: engines reach hubs by HF_ENDPOINT and their own settings")
	complain((c.TLSCert == "") != (c.TLSKey == ""), "--tls-cert and --tls-key belong together")
	complain(c.DrainLimit < 0, "--drain-limit %s: must not be negative", c.DrainLimit)
	complain(c.HungAfter < 2*time.Second, "--hung-after %s: give engines 2s at least", c.HungAfter)
	complain(c.HostLostAfter < instance.HostLease, "--host-lost-after %s: a host is only known to be silent after %s", c.HostLostAfter, instance.HostLease)
	complain(c.UsageRetention < 24*time.Hour, "--usage-retention %s: keep usage records for 24h at least", c.UsageRetention)
	complain(c.AuditRetention < 24*time.Hour, "--audit-retention %s: keep the audit trail for 24h at least", c.AuditRetention)
	complain(c.Seed && c.RootKeyFile == "", "--seed needs --root-key-file: it makes the instance of that account")
	complain(c.api() && c.TLSCert == "" && !c.Insecure && !loopback(c.Addr),
		"--addr %s is not loopback and there is no certificate: give --tls-cert and --tls-key, or --insecure", c.Addr)
	_, err := c.trustedProxies()
	return errors.Join(append(complaints, err)...)
}

func (c *Config) trustedProxies() (blocks []netip.Prefix, err error) {
	for _, text := range c.TrustedProxy {
		block, parseErr := netip.ParsePrefix(text)
		if address, addrErr := netip.ParseAddr(text); addrErr == nil && address.Zone() == "" {
			block, parseErr = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if parseErr != nil || block.Addr().Is4In6() {
			err = errors.Join(err, fmt.Errorf("--trusted-proxy %s: give a CIDR block or an IP address, such as 10.0.0.0/8 or 192.0.2.1", text))
		}
		blocks = append(blocks, block)
	}
	return blocks, err
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
