package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/up"
)

func (p *program) up() *cobra.Command {
	var config up.Config
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run everything on this machine: Postgres, control plane, gateway and engines",
		Long: `Runs Postgres (DATABASE_URL if that is set, else one of its own), the control plane and the gateway, until Ctrl-C.
Services, keys and URLs stay: the next up starts the same services again. SIGHUP reads the policy files and the catalogue again.
VLLM_COMMAND is the engine's command line; without it vllm from the PATH, else vllm-sim.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.complete(&config); err != nil {
				return err
			}
			return p.runUp(cmd.Context(), config)
		},
	}
	p.defineUp(cmd.Flags(), &config)
	return cmd
}

func (p *program) defineUp(flags *pflag.FlagSet, config *up.Config) {
	flags.StringVar(&config.DataDir, "data-dir", "", "where everything is kept (default: as root /var/lib/engineshed, else ~/.local/share/engineshed)")
	flags.StringVar(&config.APIAddr, "api-addr", "127.0.0.1:8080", "address of the OpenAPI endpoint")
	flags.StringVar(&config.GatewayAddr, "gateway-addr", "127.0.0.1:8090", "address of the gateway's private listener")
	flags.StringVar(&config.PublicAddr, "public-addr", "127.0.0.1:8091", "address of the gateway's public listener")
	flags.StringVar(&config.GatewayURL, "gateway-url", "", "how clients reach the private listener (default: by its address)")
	flags.StringVar(&config.HTTPSAddr, "https-addr", "", "address where domains are served with their certificates")
	flags.StringVar(&config.CertDir, "cert-dir", "", "directory of the certificates that domains name: NAME.crt and NAME.key")
	flags.StringVar(&config.BaseDomain, "base-domain", "", "domain of the environments' own host names (default: engineshed.localhost)")
	flags.StringSliceVar(&config.AllowUpstream, "allow-upstream", nil,
		"address that a service may have although it is not public: CIDR or ip:port, repeat for more")
	flags.StringSliceVar(&config.TrustedProxy, "trusted-proxy", nil,
		"proxy in front of the OpenAPI endpoint whose X-Forwarded-For and X-Forwarded-Proto are believed: CIDR or IP address, repeat for more")
	flags.StringVar(&config.PublicURL, "public-gateway-url", "", "how clients reach the public listener (default: by its address)")
	flags.StringVar(&config.PolicyDir, "policy-dir", "", "directory of policy files: accounts, users, keys, policies")
	flags.StringVar(&config.CatalogDir, "catalog", "", "directory of your own models' files (docs/models.md)")
	flags.StringVar(&config.Models, "models", "", "directory where the files of models are kept, fetched once for all engines (default: engines fetch them themselves)")
	flags.StringVar(&config.Sources, "model-sources", "", "file that says how hubs are reached: endpoints, proxies, token files")
	flags.StringVar(&config.Region, "region", "cn-hangzhou", "region this endpoint serves")
	flags.DurationVar(&config.DrainLimit, "drain-limit", 0, "how long an engine that goes may finish its requests (default: 1m)")
	flags.DurationVar(&config.HungAfter, "hung-after", 0, "how long an engine may be silent before it is started again (default: 30s)")
	flags.BoolVar(&config.DetachReplicas, "detach-replicas", false, "leave engines running at the end; the next up adopts them")
	flags.BoolVar(&config.Insecure, "insecure", false, "allow plain HTTP on addresses that other machines reach")
}

// complete fills in what does not come from flags.
func (p *program) complete(config *up.Config) error {
	executable, err := os.Executable()
	if err == nil {
		executable, err = filepath.EvalSymlinks(executable)
	}
	if err != nil {
		return fmt.Errorf("find the programs beside this one: %w", err)
	}
	config.Programs = filepath.Dir(executable)
	config.DatabaseURL = p.getenv("DATABASE_URL")
	config.VLLMCommand = p.getenv("VLLM_COMMAND")
	config.AccessKeyID = p.getenv("ENGINESHED_ACCESS_KEY_ID")
	config.AccessKeySecret = secret.New(p.getenv("ENGINESHED_ACCESS_KEY_SECRET"))
	for _, dir := range []*string{&config.PolicyDir, &config.CatalogDir, &config.Models, &config.Sources} {
		if *dir != "" {
			if *dir, err = filepath.Abs(*dir); err != nil {
				return err
			}
		}
	}
	if config.DataDir == "" {
		config.DataDir, err = up.DefaultDataDir(p.getenv)
	}
	return err
}

// runUp runs until the first SIGINT or SIGTERM, then stops everything in order. A second one ends it at once: the
// kernel then ends the children.
func (p *program) runUp(ctx context.Context, config up.Config) error {
	signal.Ignore(syscall.SIGPIPE) // a reader who leaves ends nothing
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	defer signal.Stop(hangUps)

	console := newConsole(p.stdout)
	config.Console = console
	console.print("Starting Engineshed in %s\n\n", config.DataDir)
	installation, err := up.Start(ctx, config)
	if err != nil {
		return err
	}
	console.print("%s", p.welcome(config, installation))
	for {
		select {
		case <-hangUps:
			installation.Reload()
			console.Notice("The policy files and the catalogue are read again; " + filepath.Join(installation.Logs, "controlplane.log") + " says what came of it.")
		case <-ctx.Done():
			console.print("\n")
			return console.Step("Stopping", func() (string, error) {
				installation.Stop()
				return stopped(config), nil
			})
		}
	}
}

func stopped(config up.Config) string {
	if config.DetachReplicas {
		return "the engines keep running; the next up adopts them"
	}
	return "everything; the next up starts the same services again"
}

func (p *program) welcome(config up.Config, i *up.Installation) string {
	c := i.Credentials
	text := fmt.Sprintf(`
  OpenAPI endpoint   %s   region %s
  Gateway            %s   public listener %s
  DB instance        %s
  Engine             %s
  Access key         %s
`, c.Endpoint, c.RegionID, c.Gateway, i.PublicGateway, or(c.DBInstanceID, "none"), i.Engine, c.AccessKeyID)
	if i.KeyMade {
		text += fmt.Sprintf("  Its secret         %s   (shown this once)\n", c.AccessKeySecret)
	}
	return text + fmt.Sprintf(`  Credentials file   %s
  Logs               %s

Try in another terminal:
  %s model-service create --model Qwen2.5-0.5B-Instruct%s
  curl %s/services/MODEL_SERVICE_ID/v1/models -H 'Authorization: Bearer API_KEY'
  go run github.com/engineshed/engineshed/sdk/mainjob %[1]s "What does an engine shed house?"

Ctrl-C stops everything.
`, i.CredentialsFile, i.Logs, os.Args[0], p.dataDirFlag(config.DataDir), c.Gateway)
}

// dataDirFlag is what the other verbs need to find the credentials, unless that is where they look.
func (p *program) dataDirFlag(dir string) string {
	usual, err := up.DefaultDataDir(p.getenv)
	if err == nil && dir == usual || dir == p.getenv("ENGINESHED_DATA_DIR") {
		return ""
	}
	return " --data-dir " + dir
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
