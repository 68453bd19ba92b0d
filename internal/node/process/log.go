package process

import (
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxLog    = 16 << 20 // an engine's log is cut when it is longer
	tailBytes = 2 << 10
	tailLines = 5
	maxLine   = 300 // of the last line, in the reason that people read
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
	data, end := readEnd(path, tailBytes)
	lines := strings.Split(strings.TrimSpace(printable(string(data))), "\n")
	if end > tailBytes && len(lines) > 1 {
		lines = lines[1:] // the first one is cut
	}
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// readEnd returns the end of a log, at most limit bytes, and how long the log is.
func readEnd(path string, limit int64) (data []byte, end int64) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0
	}
	data, err = io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-limit), limit))
	if err != nil {
		return nil, 0
	}
	return data, info.Size()
}

// legible is text of the same length, with spaces for what a database or a terminal cannot take: who follows a log counts
// its bytes.
func legible(data []byte) string {
	text := make([]byte, 0, len(data))
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == '\n' || r == '\t' || unicode.IsPrint(r) && r != utf8.RuneError {
			text = append(text, data[:size]...)
		} else {
			text = append(text, strings.Repeat(" ", size)...)
		}
		data = data[size:]
	}
	return string(text)
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(text, ""))
}
