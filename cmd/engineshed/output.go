package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// printJSON prints value for programs.
func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// printTable prints rows for people; the first one is the heading.
func printTable(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// age is how long ago a time of the API was, as people say it.
func age(createTime string, now time.Time) string {
	at, err := time.Parse(time.RFC3339, createTime)
	if err != nil {
		return createTime
	}
	return short(now.Sub(at))
}

func short(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// progress shows how something that takes time is going: one line that changes on a terminal, else a line for each
// change.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	last     string
}

func newProgress(out io.Writer) *progress {
	file, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && term.IsTerminal(int(file.Fd())), began: time.Now()}
}

// show says what the state is now.
func (p *progress) show(what, state, reason string) {
	if reason != "" {
		state += ": " + reason
	}
	elapsed := short(time.Since(p.began))
	switch {
	case p.terminal:
		fmt.Fprintf(p.out, "\r\x1b[K%s  %s  %s", what, elapsed, state)
	case state != p.last:
		fmt.Fprintf(p.out, "%s  %s  %s\n", what, elapsed, state)
	}
	p.last = state
}

// end leaves the line on the terminal, for what follows to stand below it.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		fmt.Fprintln(p.out)
	}
}
