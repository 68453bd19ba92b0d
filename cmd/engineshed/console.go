package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// console shows a person what happens, one line for each step.
type console struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	open     string // the step that is shown as under way
}

func newConsole(out io.Writer) *console {
	file, ok := out.(*os.File)
	return &console{out: out, terminal: ok && term.IsTerminal(int(file.Fd()))}
}

// Step shows name while do runs, and then how long it took and what came of it.
func (c *console) Step(name string, do func() (note string, err error)) error {
	began := time.Now()
	c.begin(name)
	note, err := do()
	mark := "✓"
	if err != nil {
		mark, note = "✗", ""
	}
	c.end(fmt.Sprintf("  %s %-28s %6.2f s   %s", mark, name, time.Since(began).Seconds(), note))
	return err
}

// Notice shows something that happened by itself.
func (c *console) Notice(text string) { c.end("  ! " + text) }

func (c *console) begin(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terminal {
		c.open = name
		fmt.Fprintf(c.out, "  · %s …", name)
	}
}

// end replaces the line of the open step.
func (c *console) end(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != "" {
		fmt.Fprint(c.out, "\r\x1b[K")
		c.open = ""
	}
	fmt.Fprintln(c.out, line)
}

// update shows how far the open step is. It shows nothing where lines cannot be replaced.
func (c *console) update(name, progress string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terminal {
		c.open = name
		fmt.Fprintf(c.out, "\r\x1b[K  · %s … %s", name, progress)
	}
}

// print writes text as it stands.
func (c *console) print(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, format, args...)
}
