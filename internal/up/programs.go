package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/child"
	"github.com/engineshed/engineshed/internal/node/process"
)

// The grace periods. The gateway and the control plane bound themselves and are killed a little later.
const (
	drainGateway  = 10 * time.Second
	drainControl  = 10 * time.Second
	graceGateway  = drainGateway + 5*time.Second
	graceControl  = 3*drainControl + 5*time.Second // requests, then jobs, then engines
	readyTimeout  = 60 * time.Second
	readyInterval = 10 * time.Millisecond
)

// program is one of our binaries as a child.
type program struct {
	name  string
	args  []string
	env   []string // added to the environment
	admin string   // where /readyz is
}

func (i *Installation) controlplane(admin string) program {
	c := i.config
	p := program{name: "controlplane", admin: admin, args: []string{
		"--addr", c.APIAddr, "--admin-addr", admin, "--role", "both", "--host", i.state.Host,
		"--data-dir", i.dir.file("worker"),
		"--master-key-file", i.dir.file("master.key"), "--snapshot-key-file", i.dir.file("snapshot.key"),
		"--root-key-file", i.dir.file("root-key.json"), "--seed", "--region", c.Region,
		"--gateway-url", c.GatewayURL, "--public-gateway-url", c.PublicURL, "--debug-gateway-url", urlOf(c.GatewayAddr),
		"--stop-grace", drainControl.String(),
		fmt.Sprintf("--insecure=%t", c.Insecure), fmt.Sprintf("--stop-engines-on-exit=%t", !c.DetachReplicas),
	}, env: []string{"DATABASE_URL=" + i.controlURL, "VLLM_COMMAND=" + i.engineCommand}}
	p.args = append(p.args, given("--policy-dir", c.PolicyDir, "--catalog", c.CatalogDir,
		"--models", c.Models, "--model-sources", c.Sources, "--cert-dir", c.CertDir, "--base-domain", c.BaseDomain,
		"--drain-limit", length(c.DrainLimit), "--hung-after", length(c.HungAfter))...)
	p.args = append(p.args, repeated("--allow-upstream", c.AllowUpstream)...)
	p.args = append(p.args, repeated("--trusted-proxy", c.TrustedProxy)...)
	return p
}

// given are the flags that have a value, of pairs of flag and value.
func given(pairs ...string) (flags []string) {
	for n := 0; n < len(pairs); n += 2 {
		if pairs[n+1] != "" {
			flags = append(flags, pairs[n], pairs[n+1])
		}
	}
	return flags
}

// length is a duration as flags take it; "" for none.
func length(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func repeated(flag string, values []string) (flags []string) {
	for _, value := range values {
		flags = append(flags, flag, value)
	}
	return flags
}

func (i *Installation) gateway(admin string) program {
	c := i.config
	p := program{name: "gateway", admin: admin, args: []string{
		"--addr", c.GatewayAddr, "--public-addr", c.PublicAddr, "--admin-addr", admin,
		"--snapshot-key-file", i.dir.file("snapshot.key"), "--data-dir", i.dir.file("gateway"),
		"--drain-notice", "0s", "--drain-timeout", drainGateway.String(), fmt.Sprintf("--insecure=%t", c.Insecure),
	}, env: []string{"GATEWAY_DATABASE_URL=" + i.gatewayURL}}
	p.args = append(p.args, given("--https-addr", c.HTTPSAddr)...)
	p.args = append(p.args, repeated("--allow-upstream", c.AllowUpstream)...)
	return p
}

// startProgram starts the program, keeps it running, and returns when it is ready for the first time.
func (i *Installation) startProgram(ctx context.Context, p program, grace time.Duration) error {
	log := i.dir.file("logs", p.name+".log")
	written, _ := os.Stat(log)
	k := &kept{name: p.name, grace: grace, start: func(context.Context) (running, error) { return i.launch(p, log) }}
	if err := i.keep(ctx, k); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	exited := k.exited()
	for {
		err := askReady(ctx, p.admin)
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s ended while it started:\n%s", p.name, lastWords(log, written))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w):\n%s", p.name, err, lastWords(log, written))
		case <-time.After(readyInterval):
		}
	}
}

func (i *Installation) launch(p program, log string) (running, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(i.config.Programs, p.name), p.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(childEnv(os.Environ()), p.env...)
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return process, nil
}

// childEnv is the environment without what is meant for `up`: its flags are not its children's, and neither of them may
// see a database role that is not its own.
func childEnv(environ []string) []string {
	var kept []string
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "ENGINESHED_") || strings.HasPrefix(name, "PG") ||
			strings.HasSuffix(name, "DATABASE_URL") || name == "VLLM_COMMAND" {
			continue
		}
		kept = append(kept, variable)
	}
	return kept
}

func askReady(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	return err
}

// lastWords are the last lines that were added to a log after before.
func lastWords(log string, before os.FileInfo) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	if before != nil && before.Size() <= int64(len(text)) {
		text = text[before.Size():]
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// chooseEngine is the engine's command line: the user's, vLLM where there is one, else the stand-in beside us.
func (i *Installation) chooseEngine() (err error) {
	if i.engineCommand = i.config.VLLMCommand; i.engineCommand != "" {
		i.Engine = i.engineCommand + " (VLLM_COMMAND)"
		return nil
	}
	if path, err := exec.LookPath("vllm"); err == nil {
		i.engineCommand, i.Engine = quote(path), path
		return nil
	}
	sim := filepath.Join(i.config.Programs, "vllm-sim")
	if process.CheckCommand([]string{sim}, "") != nil { // engines do not run as root, and may not enter this folder
		if sim, err = copyProgram(sim, i.dir.file("worker", "vllm-sim")); err != nil {
			return fmt.Errorf("there is no engine: %w", err)
		}
	}
	i.engineCommand, i.Engine = quote(sim)+" "+i.config.SimKnobs, "vllm-sim, simulated answers (no vllm on the PATH, VLLM_COMMAND is not set)"
	return process.CheckCommand([]string{sim}, "")
}

// copyProgram replaces to by a copy that everybody may run, also while an engine runs from the old one.
func copyProgram(from, to string) (string, error) {
	source, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer source.Close()
	target, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(target, source)
	if err := errors.Join(err, target.Chmod(0o755), target.Close()); err != nil {
		return "", err
	}
	return to, os.Rename(to+".new", to)
}

// quote makes one word of a path, as a shell would read it.
func quote(path string) string { return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'" }
