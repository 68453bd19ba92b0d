package modelfile

import (
	"context"
	"fmt"
	"time"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

// over reports whether the fetch has ended.
func (f *fetch) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

func (f *fetch) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended, f.err = true, err
}

// tell says what happens, until the sizes are known or something else is said.
func (f *fetch) tell(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.say != what {
		f.say, f.noted = what, time.Time{}
	}
}

// begin says how much there is to fetch, and how much is there.
func (f *fetch) begin(total, there int64) {
	f.total.Store(total)
	f.bytes.Store(there)
	f.tell("")
}

// wait waits as long as the hub asks for, and says so.
func (f *fetch) wait(ctx context.Context, busy *hub.Busy) error {
	f.mu.Lock()
	f.waits, f.waitTo, f.noted = busy.Host, time.Now().Add(busy.After), time.Time{}
	f.mu.Unlock()
	return sleep(ctx, busy.After)
}

func (f *fetch) supply(now time.Time) Supply {
	f.looked.Store(now.UnixNano())
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return Supply{Err: f.err}
	}
	if now.Sub(f.noted) >= noteEvery {
		f.note, f.noted = f.describe(now), now
	}
	return Supply{Fetching: true, Note: f.note}
}

// describe is the note of this moment, such as "downloading Qwen/Qwen3-8B@main: 3.1 of 15.3 GiB".
func (f *fetch) describe(now time.Time) string {
	note := fmt.Sprintf("downloading %s: ", f.source)
	total, there := f.total.Load(), f.bytes.Load()
	switch {
	case f.say != "":
		note += f.say
	case total < 0:
		note += Size(there) + " so far"
	default:
		note += amount(there, total)
	}
	if f.waitTo.After(now) {
		note += fmt.Sprintf("; %s asks to wait until %s", f.waits, f.waitTo.Format("15:04:05 MST"))
	}
	return note
}

// units are the sizes that people are told of, the largest first.
var units = []struct {
	bytes int64
	name  string
}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}, {1, "B"}}

func unitOf(bytes int64) (size float64, name string) {
	for _, u := range units {
		if bytes >= u.bytes || u.bytes == 1 {
			return float64(u.bytes), u.name
		}
	}
	return 1, "B"
}

// Size is a number of bytes as people say it, such as 14.2 GiB.
func Size(bytes int64) string {
	size, name := unitOf(bytes)
	return fmt.Sprintf("%.1f %s", float64(bytes)/size, name)
}

// amount is how much of the whole there is, both in the unit of the whole.
func amount(there, total int64) string {
	size, name := unitOf(total)
	return fmt.Sprintf("%.1f of %.1f %s", float64(there)/size, float64(total)/size, name)
}
