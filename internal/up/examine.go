package up

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/engineshed/engineshed/internal/node/process"
	"github.com/engineshed/engineshed/internal/postgres/embedded"
)

// Status is how well something is.
type Status string

// What Examine can find: all is well, Start works but not as one may expect, Start will fail.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is what one check found, and what to do about it.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"`
}

// Room on the disk: below the first Start fails, below the second it is worth a word.
const (
	scarce = 256 << 20
	ample  = 2 << 30
)

// Examine looks whether Start would work with config, and changes nothing.
func Examine(ctx context.Context, config Config) []Finding {
	findings := []Finding{examinePrograms(config), examineDataDir(config), examineDisk(config.DataDir)}
	findings = append(findings, examineAddrs(config)...)
	return append(findings, examinePostgres(ctx, config), examineEngine(config), examineAccelerators(ctx))
}

func examinePrograms(config Config) Finding {
	for _, name := range []string{"controlplane", "gateway"} {
		if _, err := exec.LookPath(filepath.Join(config.Programs, name)); err != nil {
			return Finding{"programs", Fail, fmt.Sprintf("%s is not in %s", name, config.Programs), "run make build, and start engineshed from the folder it fills"}
		}
	}
	return Finding{"programs", OK, "controlplane and gateway are in " + config.Programs, ""}
}

func examineDataDir(config Config) Finding {
	if err := CheckDataDir(config.DataDir, config.DatabaseURL == ""); err != nil {
		return Finding{"data directory", Fail, err.Error(), "choose another with --data-dir"}
	}
	dir := existing(config.DataDir)
	if syscall.Access(dir, 2) != nil {
		return Finding{"data directory", Fail, "nothing can be written in " + dir, "choose another with --data-dir"}
	}
	if holder := holderOf(config.DataDir); holder != "" {
		return Finding{"data directory", OK, config.DataDir + " is in use by engineshed (" + holder + ")", ""}
	}
	return Finding{"data directory", OK, config.DataDir, ""}
}

// existing is the part of path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// holderOf is who runs on a data directory, or empty.
func holderOf(dir string) string {
	path := filepath.Join(dir, "lock")
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return "" // closing the file lets it go again
	}
	text, _ := os.ReadFile(path)
	return strings.TrimSpace(string(text))
}

func examineDisk(dir string) Finding {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(existing(dir), &stat); err != nil {
		return Finding{"disk", Warn, err.Error(), ""}
	}
	free := stat.Bavail * uint64(stat.Bsize)
	found := Finding{"disk", OK, fmt.Sprintf("%.1f GiB free for %s", float64(free)/(1<<30), dir), ""}
	switch {
	case free < scarce:
		found.Status, found.Advice = Fail, "free some, or choose another --data-dir"
	case free < ample:
		found.Status, found.Advice = Warn, "logs and the database grow: free some"
	}
	return found
}

// examineAddrs counts an address that an installation on the same data directory listens on as well.
func examineAddrs(config Config) []Finding {
	running := holderOf(config.DataDir) != ""
	var ours Credentials
	if text, err := os.ReadFile(filepath.Join(config.DataDir, "credentials.json")); running && err == nil {
		_ = json.Unmarshal(text, &ours) // a file that cannot be read explains no address
	}
	var findings []Finding
	for _, addr := range []struct{ flag, addr, ours string }{
		{"--api-addr", config.APIAddr, ours.Endpoint}, {"--gateway-addr", config.GatewayAddr, ours.Gateway}, {"--public-addr", config.PublicAddr, ""},
	} {
		findings = append(findings, examineAddr(addr.flag, addr.addr, running && (addr.ours == urlOf(addr.addr) || addr.ours == "")))
	}
	return findings
}

func examineAddr(flag, addr string, ours bool) Finding {
	listener, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		listener.Close()
		return Finding{addr, OK, "free", ""}
	case ours:
		return Finding{addr, OK, "in use by this installation", ""}
	default:
		return Finding{addr, Fail, err.Error(), "stop what listens there, or give another address with " + flag}
	}
}

func examinePostgres(ctx context.Context, config Config) Finding {
	if config.DatabaseURL != "" {
		return examineDatabaseURL(ctx, config.DatabaseURL)
	}
	if dir, ok := embedded.Installed(ctx); ok {
		major, err := embedded.MajorVersion(ctx, dir)
		if err != nil {
			return Finding{"Postgres", Fail, err.Error(), "repair this Postgres, or set DATABASE_URL"}
		}
		return Finding{"Postgres", OK, fmt.Sprintf("version %s in %s", major, dir), ""}
	}
	return Finding{
		"Postgres", Warn, fmt.Sprintf("none (version %d or newer) is installed", embedded.OldestMajor),
		"up will download " + embedded.DownloadVersion + " (15 MB) from Maven Central; or install one, or set DATABASE_URL",
	}
}

func examineDatabaseURL(ctx context.Context, url string) Finding {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return Finding{"Postgres", Fail, "DATABASE_URL: " + err.Error(), "start that Postgres, correct the URL, or unset it to use one of our own"}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var version int
	var mayMigrate bool
	err = conn.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int / 10000,
		       (SELECT rolsuper OR rolcreaterole OR rolname = 'engineshed_owner' FROM pg_roles WHERE rolname = current_user)`,
	).Scan(&version, &mayMigrate)
	found := Finding{"Postgres", OK, fmt.Sprintf("version %d by DATABASE_URL", version), ""}
	switch {
	case err != nil:
		found = Finding{"Postgres", Fail, "DATABASE_URL: " + err.Error(), ""}
	case version < embedded.OldestMajor:
		found.Status, found.Advice = Fail, fmt.Sprintf("use version %d or newer", embedded.OldestMajor)
	case !mayMigrate:
		found.Status, found.Advice = Fail, "use a role with CREATEROLE: up makes the roles that its programs connect as"
	}
	return found
}

func examineEngine(config Config) Finding {
	if config.VLLMCommand != "" {
		words, err := process.SplitCommand(config.VLLMCommand)
		if err == nil {
			err = process.CheckCommand(words, "")
		}
		if err != nil {
			return Finding{"engine", Fail, "VLLM_COMMAND: " + err.Error(), "correct VLLM_COMMAND, or unset it"}
		}
		return Finding{"engine", OK, config.VLLMCommand + " (VLLM_COMMAND)", ""}
	}
	if path, err := exec.LookPath("vllm"); err == nil {
		if err := process.CheckCommand([]string{path}, ""); err != nil {
			return Finding{"engine", Fail, err.Error(), "install vLLM where every user may run it"}
		}
		return Finding{"engine", OK, path, ""}
	}
	sim := filepath.Join(config.Programs, "vllm-sim")
	if _, err := exec.LookPath(sim); err != nil {
		return Finding{"engine", Fail, "neither vllm on the PATH nor " + sim, "install vLLM, set VLLM_COMMAND, or run make build"}
	}
	return Finding{
		"engine", Warn, "no vllm on the PATH: vllm-sim gives simulated answers",
		"for real ones install vLLM (pip install vllm), or set VLLM_COMMAND",
	}
}

func examineAccelerators(ctx context.Context) Finding {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return Finding{"accelerators", Warn, "no nvidia-smi: AI nodes will be simulated ones", "with an NVIDIA GPU, install its driver"}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--query-gpu=name", "--format=csv,noheader").Output()
	if err != nil {
		return Finding{"accelerators", Fail, "nvidia-smi fails: " + err.Error(), "repair the NVIDIA driver"}
	}
	names := strings.Split(strings.TrimSpace(string(out)), "\n")
	return Finding{"accelerators", OK, fmt.Sprintf("%d: %s", len(names), strings.Join(names, ", ")), ""}
}
