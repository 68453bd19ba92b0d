package process

import (
	"io"
	"os"
	"strings"
	"unicode"
)

const (
	maxLog    = 16 << 20 // an engine's log is cut when it is longer
	tailBytes = 2 << 10
	tailLines = 5
)

// boundLog moves a log that has grown too long to the last log. The engine appends, so it goes on at the beginning.
func (f files) boundLog() {
	info, err := os.Stat(f.path(logFile))
	if err != nil || info.Size() <= maxLog {
		return
	}
	from, err := os.Open(f.path(logFile))
	if err != nil {
		return
	}
	defer from.Close()
	to, err := os.OpenFile(f.path(lastLogFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	defer to.Close()
	_, _ = io.Copy(to, from)
	_ = os.Truncate(f.path(logFile), 0) // also when the copy failed: a full disk is worse than a lost log
}

// logTail returns the last lines of a log as text that a database and a terminal can take.
func logTail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	from := max(0, info.Size()-tailBytes)
	data, err := io.ReadAll(io.NewSectionReader(file, from, tailBytes))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(printable(string(data))), "\n")
	if from > 0 && len(lines) > 1 {
		lines = lines[1:] // the first one is cut
	}
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(text, ""))
}
