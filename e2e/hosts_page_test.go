package e2e

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/config"
)

// These tests read docs/several-hosts.md and try what it says on the binaries.

// blocks are the fenced blocks of the page in a language.
func blocks(t *testing.T, language string) (found []string) {
	t.Helper()
	page, err := os.ReadFile("../docs/several-hosts.md")
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllStringSubmatch(string(page), -1) {
		found = append(found, block[1])
	}
	require.NotEmpty(t, found)
	return found
}

// unit is what a systemd unit of the page says of its program.
type unit struct {
	command     []string
	environment []string
	text        string
}

// units are the page's units, by what the page calls them.
func units(t *testing.T) map[string]unit {
	t.Helper()
	all := map[string]unit{}
	for _, block := range blocks(t, "ini") {
		u := unit{text: block}
		for _, line := range strings.Split(strings.ReplaceAll(block, "\\\n", ""), "\n") {
			name, value, _ := strings.Cut(line, "=")
			switch name {
			case "ExecStart":
				u.command = strings.Fields(value)
			case "Environment":
				u.environment = append(u.environment, strings.Trim(value, `"`))
			}
		}
		name := filepath.Base(u.command[0])
		if i := slices.Index(u.command, "--role"); i > 0 {
			name = u.command[i+1]
		}
		u.command[0] = filepath.Join(binaries, filepath.Base(u.command[0]))
		all[name] = u
	}
	require.Len(t, all, 3)
	return all
}

func TestUnitsOfThePageGiveEveryProgramFlagsAndVariablesThatItKnows(t *testing.T) {
	t.Parallel()
	for name, u := range units(t) {
		help := exec.CommandContext(t.Context(), u.command[0], append(u.command[1:], "--help")...)
		help.Env = u.environment
		text, err := help.CombinedOutput()
		require.NoError(t, err, "%s: %s", name, text)
		known := slices.Clone(connections[filepath.Base(u.command[0])])
		for _, flag := range regexp.MustCompile(`(?m)^ +(?:-., )?--([a-z-]+)`).FindAllStringSubmatch(string(text), -1) {
			known = append(known, config.Variable(flag[1]))
		}
		for _, variable := range u.environment {
			name, _, _ := strings.Cut(variable, "=")
			require.Contains(t, known, name)
		}
	}
}

func TestUnitsOfThePageLackNothingButTheirFiles(t *testing.T) {
	t.Parallel()
	missing := map[string]string{
		"api": "/etc/engineshed/control/master.key", "worker": "/etc/engineshed/control/master.key", "gateway": "/etc/engineshed/",
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, u := range units(t) {
		run := exec.CommandContext(ctx, u.command[0], u.command[1:]...)
		run.Env = u.environment
		text, err := run.CombinedOutput()
		require.Error(t, err, name)
		require.Contains(t, string(text), missing[name], "%s complains of something else", name)
	}
}

func TestAWorkersUnitLeavesItsEnginesAlone(t *testing.T) {
	t.Parallel()
	require.Contains(t, units(t)["worker"].text, "\nKillMode=process\n")
	require.NotContains(t, units(t)["worker"].text, "\nUser=", "engines run as somebody else, which root alone can arrange")
}

func TestVerbsOfThePageExist(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, block := range blocks(t, "console") {
		for _, line := range strings.Split(block, "\n") {
			command, ok := strings.CutPrefix(line, "$ engineshed ")
			if !ok {
				require.True(t, strings.HasPrefix(line, "$ export "), line)
				continue
			}
			words := strings.Fields(command)
			help := exec.CommandContext(t.Context(), filepath.Join(binaries, "engineshed"), append(words, "--help")...)
			text, err := help.CombinedOutput()
			require.NoError(t, err, "%s: %s", line, text)
			verb := words[0]
			if regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(words[1]) {
				verb += " " + words[1]
			}
			require.Contains(t, string(text), "engineshed "+verb, "%s is no verb", verb)
			seen++
		}
	}
	require.Greater(t, seen, 10)
}

func TestPortsOfThePageAreThoseOfItsUnits(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/several-hosts.md")
	require.NoError(t, err)
	var table string
	for lines := bufio.NewScanner(strings.NewReader(string(page))); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "| ") && strings.Count(lines.Text(), "|") == 6 {
			table += lines.Text() + "\n"
		}
	}
	for name, u := range units(t) {
		for _, port := range regexp.MustCompile(`-addr [0-9.]+:(\d+)`).FindAllStringSubmatch(strings.Join(u.command, " "), -1) {
			require.Regexp(t, `\| [^|]*\b`+port[1]+`\b[^|]*\|`, table, name)
		}
	}
}
