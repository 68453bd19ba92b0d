package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/engineshed/engineshed/internal/node/vllm"
)

// versionLimit is how long an engine may take to say its version: it loads most of itself before.
const versionLimit = 3 * time.Minute

// spoken is a version as vLLM says it, alone on a line or behind its name.
var spoken = regexp.MustCompile(`(?m)^(?:vllm )?v?([0-9]+(?:\.[0-9]+){1,3})(?:[^0-9\n][^\n]*)?$`)

// Version asks the engine's command for its version, which can take a minute. It is "" for an engine that says nothing that
// looks like one.
func (d *Driver) Version(ctx context.Context) (string, error) {
	path, err := lookPath(d.config.Command[0])
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	args := slices.Concat(d.config.Command[1:], []string{"--version"})
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=" + searchPath(), "HOME=/nonexistent", "LANG=C.UTF-8"}
	for _, name := range vllm.HostVariables {
		if value := os.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: d.account.credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask the engine's command for its version: %w", err)
	}
	if said := spoken.FindSubmatch(out); said != nil {
		return string(said[1]), nil
	}
	return "", nil
}
