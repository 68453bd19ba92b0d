package e2e

import (
	"context"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/config"
	"github.com/engineshed/engineshed/internal/postgres/embedded"
)

// These tests read docker-compose.yml and try what it says on the binaries. No container is started.

// composeImage is what the Dockerfile makes.
const composeImage = "engineshed:local"

// connections are the variables that a program reads besides those of its flags, by its first words.
var connections = map[string][]string{
	"controlplane":       {"DATABASE_URL", "VLLM_COMMAND"},
	"gateway":            {"GATEWAY_DATABASE_URL"},
	"engineshed migrate": {"MIGRATE_DATABASE_URL"},
}

func composeProject(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../docker-compose.yml"}, cli.WithProfiles([]string{"*"}))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

// composePrograms are the services that run one of our programs, each with the program's name.
func composePrograms(project *types.Project) map[string]types.ServiceConfig {
	programs := maps.Clone(map[string]types.ServiceConfig(project.Services))
	maps.DeleteFunc(programs, func(_ string, service types.ServiceConfig) bool {
		return service.Image != composeImage || service.Command[0] == "sleep"
	})
	return programs
}

// verbOf is the program with the words that choose what it does, such as engineshed migrate.
func verbOf(service types.ServiceConfig) string {
	var words []string
	for _, word := range service.Command {
		if !regexp.MustCompile(`^[a-z-]+$`).MatchString(word) || strings.HasPrefix(word, "-") {
			break
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// environment is a service's environment as a process takes it.
func environment(service types.ServiceConfig) []string {
	var variables []string
	for name, value := range service.Environment {
		variables = append(variables, name+"="+*value)
	}
	return variables
}

func TestComposeGivesEveryProgramFlagsAndVariablesThatItKnows(t *testing.T) {
	t.Parallel()
	for name, service := range composePrograms(composeProject(t)) {
		// With --help behind them the flags and the variables are read, and nothing is started.
		help := exec.CommandContext(t.Context(), filepath.Join(binaries, service.Command[0]), append(service.Command[1:], "--help")...)
		help.Env = environment(service)
		text, err := help.CombinedOutput()
		require.NoError(t, err, "%s: %s", name, text)
		known := slices.Clone(connections[verbOf(service)])
		for _, flag := range regexp.MustCompile(`(?m)^ +(?:-., )?--([a-z-]+)`).FindAllStringSubmatch(string(text), -1) {
			known = append(known, config.Variable(flag[1]))
		}
		require.Subset(t, known, slices.Collect(maps.Keys(service.Environment)), "%s sets what nothing reads", name)
		for _, variable := range connections[verbOf(service)] {
			if variable != "VLLM_COMMAND" {
				require.Contains(t, service.Environment, variable, name)
			}
		}
		require.Subset(t, []string{"engineshed", "controlplane", "gateway"}, service.Command[:1], name)
	}
}

func TestComposeProgramsLackNothingButTheirFiles(t *testing.T) {
	t.Parallel()
	missing := map[string]string{
		"api": "/keys/control/master.key", "worker": "/keys/control/master.key", "gateway": "/keys/gateway/snapshot.key",
		"migrate": "/keys/database/owner.password", "cli": "/keys/control/root.json",
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, service := range composePrograms(composeProject(t)) {
		if name == "keys" {
			continue // it makes them
		}
		run := exec.CommandContext(ctx, filepath.Join(binaries, service.Command[0]), service.Command[1:]...)
		run.Env = environment(service)
		text, err := run.CombinedOutput()
		require.Error(t, err, name)
		require.Contains(t, string(text), missing[name], "%s complains of something else", name)
	}
}

func TestComposeMountsEveryPath(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	paths := regexp.MustCompile(`(?:^|=)(/[a-z][^=&]*)`)
	for name, service := range project.Services {
		words := append(environment(service), service.Command...)
		for _, word := range words {
			for _, path := range paths.FindAllStringSubmatch(word, -1) {
				require.True(t, slices.ContainsFunc(service.Volumes, func(v types.ServiceVolumeConfig) bool {
					return path[1] == v.Target || strings.HasPrefix(path[1], v.Target+"/") || strings.HasPrefix(v.Target, path[1]+"/")
				}), "%s: %s is on no volume", name, path[1])
			}
		}
		for _, volume := range service.Volumes {
			require.Equal(t, types.VolumeTypeVolume, volume.Type, name)
			require.Contains(t, project.Volumes, volume.Source, name)
			if strings.HasPrefix(volume.Target, "/keys/") {
				require.Equal(t, "keys-"+filepath.Base(volume.Target), volume.Source, "%s: the same keys at the same place everywhere", name)
				require.Equal(t, name != "keys", volume.ReadOnly, "%s: who makes the keys writes them, and nobody else", name)
			}
		}
	}
	require.False(t, slices.ContainsFunc(project.Services["gateway"].Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Source == "keys-control" || v.Source == "keys-database"
	}), "the gateway sees no key but its own")
}

func TestComposeImageHasTheFoldersThatVolumesTakeTheirOwnerFrom(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../Dockerfile")
	require.NoError(t, err)
	for name, service := range composePrograms(composeProject(t)) {
		for _, volume := range service.Volumes {
			require.Regexp(t, regexp.QuoteMeta(volume.Target)+`[\s&]`, string(text), name)
		}
	}
	users := regexp.MustCompile(`(?m)^USER (\S+)$`).FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, users)
	require.Equal(t, "engineshed", users[len(users)-1][1])
	for _, program := range []string{"engineshed", "controlplane", "gateway", "vllm-sim"} {
		require.Contains(t, string(text), "/out/"+program+" ")
	}
}

func TestComposeImageIsBuiltFromAllThatGoCompiles(t *testing.T) {
	t.Parallel()
	ignored, err := os.ReadFile("../.dockerignore")
	require.NoError(t, err)
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}", "./cmd/...")
	list.Dir = ".."
	packages, err := list.Output()
	require.NoError(t, err)
	for pkg := range strings.FieldsSeq(string(packages)) {
		folder, _, _ := strings.Cut(strings.TrimPrefix(pkg, "github.com/engineshed/engineshed/"), "/")
		require.Contains(t, string(ignored), "\n!"+folder+"\n", pkg)
	}
}

func TestComposeServicesRunUnprivilegedAndAreWatched(t *testing.T) {
	t.Parallel()
	for name, service := range composeProject(t).Services {
		require.Equal(t, "999:999", service.User, name)
		require.False(t, service.Privileged, name)
		require.Equal(t, []string{"ALL"}, service.CapDrop, name)
		require.Empty(t, service.CapAdd, name)
		require.Contains(t, service.SecurityOpt, "no-new-privileges:true", name)
		switch {
		case service.Restart == "no": // ends by itself, and others wait for its success
		case name == "network": // sleeps, and could be nothing but well
		default:
			require.NotNil(t, service.HealthCheck, name)
			require.Equal(t, "CMD", service.HealthCheck.Test[0], "%s: without a shell", name)
		}
		for _, port := range service.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, "%s publishes plain HTTP", name)
		}
	}
}

func TestComposeHealthChecksAskTheAdminListeners(t *testing.T) {
	t.Parallel()
	for name, service := range composePrograms(composeProject(t)) {
		admin := flagOf(service, "admin-addr")
		if admin == "" {
			continue
		}
		test := service.HealthCheck.Test
		require.Equal(t, "wget", test[1], "%s: the Dockerfile installs no other client", name)
		require.Equal(t, "http://"+admin+"/readyz", test[len(test)-1], name)
	}
}

func TestComposeEnginesAndGatewayShareOneNetwork(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	require.True(t, *project.Services["worker"].Init, "orphaned engines are reaped")
	listeners := map[string]string{} // port → service
	for name, service := range project.Services {
		inside := service.NetworkMode == "service:network"
		require.Equal(t, slices.Contains([]string{"worker", "gateway", "cli"}, name), inside, name)
		if !inside || name == "cli" {
			continue
		}
		require.Empty(t, service.Ports, "%s: the network's owner publishes", name)
		for _, flag := range []string{"addr", "public-addr", "admin-addr"} {
			if _, port, ok := strings.Cut(flagOf(service, flag), ":"); ok {
				require.Empty(t, listeners[port], "port %s is taken twice", port)
				listeners[port] = name
			}
		}
	}
	for _, port := range project.Services["network"].Ports {
		require.Equal(t, "gateway", listeners[strconv.Itoa(int(port.Target))])
	}
	api := project.Services["api"]
	require.Equal(t, port(t, flagOf(api, "gateway-url")), port(t, "http://"+flagOf(project.Services["gateway"], "addr")))
	require.Equal(t, "http://network:"+port(t, "http://"+flagOf(project.Services["gateway"], "addr")), flagOf(api, "debug-gateway-url"))
	require.Equal(t, port(t, flagOf(api, "public-gateway-url")), port(t, "http://"+flagOf(project.Services["gateway"], "public-addr")))
	require.Equal(t, port(t, *project.Services["cli"].Environment["ENGINESHED_ENDPOINT"]), port(t, "http://"+flagOf(api, "addr")))
}

func TestComposeStartsThingsInOrder(t *testing.T) {
	t.Parallel()
	services := composeProject(t).Services
	require.Equal(t, types.ServiceConditionCompletedSuccessfully, services["postgres"].DependsOn["keys"].Condition)
	require.Equal(t, types.ServiceConditionHealthy, services["migrate"].DependsOn["postgres"].Condition)
	for _, name := range []string{"api", "worker", "gateway"} {
		require.Equal(t, types.ServiceConditionCompletedSuccessfully, services[name].DependsOn["migrate"].Condition, name)
	}
	require.Contains(t, services["gateway"].DependsOn, "worker", "the gateway drains before the engines end")
}

func TestComposePostgresIsTheOneThatUpDownloads(t *testing.T) {
	t.Parallel()
	postgres := composeProject(t).Services["postgres"]
	version := strings.TrimSuffix(embedded.DownloadVersion, ".0")
	require.Equal(t, "postgres:"+version, postgres.Image)
	database := *postgres.Environment["POSTGRES_DB"]
	for name, service := range composePrograms(composeProject(t)) {
		for variable, value := range service.Environment {
			if !strings.HasSuffix(variable, "DATABASE_URL") {
				continue
			}
			at, err := url.Parse(*value)
			require.NoError(t, err)
			require.Equal(t, "postgres:5432", at.Host, name)
			require.Equal(t, "/"+database, at.Path, name)
		}
	}
}

// flagOf is the value of --flag=value in a service's command.
func flagOf(service types.ServiceConfig, flag string) string {
	for _, word := range service.Command {
		if value, ok := strings.CutPrefix(word, "--"+flag+"="); ok {
			return value
		}
	}
	return ""
}

func port(t *testing.T, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	return parsed.Port()
}
