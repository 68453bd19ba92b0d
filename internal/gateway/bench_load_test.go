package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httputil"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// load is what clients ask of a target. A process of its own does it, and looks at the target's process meanwhile.
type load struct {
	Addr     string
	Pid      int
	Upstream string // where open streams are counted
	Path     string
	Query    string // "", pacedStream or idleStream
	APIs     int    // how many Model APIs are asked at random; Path then begins with the number of one
	Apart    int    // their numbers
	Model    string // that the upstream is to be asked for
	Prompt   int    // bytes
	Conns    int
	On       cores
	Warm     time.Duration
	For      time.Duration
}

// seen is what came of a load.
type seen struct {
	Answers  int // or events
	CPU      time.Duration
	Work     time.Duration // the same, exactly
	Switches int           // how often a thread of the target began to run
	RSS      int           // bytes that streams added
	Peak     int           // bytes
	P50, P99 time.Duration
	Open     int // streams at the upstream, leaveWithin after all clients left
}

const (
	leaveWithin = 300 * time.Millisecond
	ioTimeout   = 30 * time.Second
	apiDigits   = 6
)

// requests keeps the connections busy. Every answer is looked at.
func (l load) requests() (s seen, err error) {
	var answers atomic.Int64
	var ended atomic.Bool
	var all sync.WaitGroup
	var waits []time.Duration // of a single connection
	failures := make(chan error, l.Conns)
	for range l.Conns {
		all.Go(func() {
			err := l.ask(&ended, func(d time.Duration) {
				answers.Add(1)
				if l.Conns == 1 {
					waits = append(waits, d)
				}
			})
			if err != nil {
				failures <- err
			}
		})
	}
	time.Sleep(l.Warm)
	if err := resetPeak(l.Pid); err != nil {
		return s, err
	}
	before, cpu := answers.Load(), cpuOf(l.Pid)
	work, switches := workOf(l.Pid)
	time.Sleep(l.For)
	s.Answers, s.CPU = int(answers.Load()-before), cpuOf(l.Pid)-cpu
	s.Work, s.Switches = workOf(l.Pid)
	s.Work, s.Switches = s.Work-work, s.Switches-switches
	s.Peak = memoryOf(l.Pid, "VmHWM")
	ended.Store(true)
	all.Wait()
	close(failures)
	for err := range failures {
		return s, err
	}
	if waits = waits[min(int(before), len(waits)):]; len(waits) > 0 {
		slices.Sort(waits)
		s.P50, s.P99 = waits[len(waits)/2], waits[len(waits)*99/100]
	}
	return s, nil
}

// ask asks on one connection and tells how long each answer took.
func (l load) ask(ended *atomic.Bool, answered func(time.Duration)) error {
	conn, err := net.Dial("tcp", l.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 8<<10)
	request, length := l.request()
	want := wholeAnswer(length, l.Model)
	for !ended.Load() {
		if l.APIs > 0 {
			copy(request[len("POST /"):], fmt.Appendf(nil, "%0*d", apiDigits, l.Apart*rand.IntN(l.APIs)))
		}
		began := time.Now()
		if _, err := conn.Write(request); err != nil {
			return err
		}
		if err := expect(in, want); err != nil {
			return err
		}
		answered(time.Since(began))
	}
	return nil
}

// expect reads an answer that is to be want.
func expect(in *bufio.Reader, want []byte) error {
	status, length, err := readHead(in)
	if err != nil {
		return err
	}
	got, err := in.Peek(min(length, in.Size()))
	if err != nil {
		return err
	}
	if string(status) != "200" || !bytes.Equal(got, want) {
		return fmt.Errorf("answered %s: %s, not %s", status, got, want)
	}
	_, err = in.Discard(length)
	return err
}

// turn is what a message says: text with the escapes and the letters that prompts have.
const turn = `The depot keeps \"two\" engines in steam:\n\tNo. 5, for the express,\n\tNo. 7, for goods — 機関車が二両。\n` +
	`Each needs 4.5 t of coal and 12 m³ of water a day; who is on shift fills both before six o'clock.\n\n`

// request is a chat completion as the official client writes it, the model last, and the length of its body.
func (l load) request() (request []byte, length int) {
	const perMessage = 2 << 10
	var body strings.Builder
	body.WriteString(`{"messages":[{"role":"system","content":"You answer in one sentence."}`)
	for i := 0; body.Len() < l.Prompt; i++ {
		role := [...]string{"user", "assistant"}[i%2]
		text := strings.Repeat(turn, max(1, min(perMessage, l.Prompt-body.Len())/len(turn)))
		fmt.Fprintf(&body, `,{"role":"%s","content":"%s"}`, role, text)
	}
	fmt.Fprintf(&body, `],"temperature":0.7,"stream":%t,"model":"asked"}`, l.Query != "")
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: gateway\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"+
		"Authorization: Bearer %s\r\nContent-Type: application/json\r\nUser-Agent: OpenAI/Python 1.0\r\n"+
		"X-Stainless-Lang: python\r\nX-Stainless-Os: Linux\r\nContent-Length: %d\r\n\r\n", l.Path+l.Query, callerKey, body.Len())
	return []byte(head + body.String()), body.Len()
}

// streams opens all streams and, when every one has begun, looks at the target for a while. Then all clients leave.
func (l load) streams() (s seen, err error) {
	var events atomic.Int64
	var left atomic.Bool
	var all sync.WaitGroup
	begun, failures := make(chan net.Conn, l.Conns), make(chan error, l.Conns)
	fresh := memoryOf(l.Pid, "VmRSS")
	for range l.Conns {
		all.Go(func() {
			if err := l.follow(begun, &events); err != nil && !left.Load() {
				failures <- err
			}
		})
	}
	var conns []net.Conn
	for range l.Conns {
		select {
		case conn := <-begun:
			conns = append(conns, conn)
		case err := <-failures:
			return s, err
		}
	}
	time.Sleep(l.Warm)
	before, cpu := events.Load(), cpuOf(l.Pid)
	time.Sleep(l.For)
	s.Answers, s.CPU = int(events.Load()-before), cpuOf(l.Pid)-cpu
	s.RSS = memoryOf(l.Pid, "VmRSS") - fresh
	left.Store(true)
	for _, conn := range conns {
		_ = conn.Close()
	}
	time.Sleep(leaveWithin)
	if s.Open, err = askOpen(l.Upstream); err != nil {
		return s, err
	}
	all.Wait()
	close(failures)
	return s, <-failures
}

// follow reads one stream. Every event is looked at.
func (l load) follow(begun chan<- net.Conn, events *atomic.Int64) error {
	conn, err := net.Dial("tcp", l.Addr)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(ioTimeout + l.Warm + l.For))
	request, _ := l.request()
	if _, err := conn.Write(request); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 4<<10)
	if status, _, err := readHead(in); err != nil || string(status) != "200" {
		return fmt.Errorf("answered %s, %w", status, err)
	}
	payload := httputil.NewChunkedReader(in)
	got := make([]byte, len(streamEvent(0)))
	for n := 0; ; n++ {
		if _, err := io.ReadFull(payload, got); err != nil {
			return err
		}
		if want := streamEvent(n); !bytes.Equal(got, want) {
			return fmt.Errorf("event %q came, not %q", got, want)
		}
		if n == 0 {
			begun <- conn
		}
		events.Add(1)
	}
}

// cpuOf is the processor time that a process has used.
func cpuOf(pid int) time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100 // USER_HZ is 100 on every Linux
}

// memoryOf is a field of a process's status, in bytes.
func memoryOf(pid int, field string) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), field+":")
	value, _, _ := strings.Cut(rest, "kB")
	kilobytes, _ := strconv.Atoi(strings.TrimSpace(value))
	return kilobytes << 10
}

// resetPeak has the kernel forget the most memory that a process has had.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200)
}

// putLoad is the role of the load: what was seen goes to standard output.
func putLoad() error {
	var l load
	if err := told(&l); err != nil {
		return err
	}
	measure := l.requests
	if l.Query != "" {
		measure = l.streams
	}
	s, err := measure()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// put puts a load on a process.
func put(b *testing.B, p *process, l load) (s seen) {
	b.Helper()
	l.Addr, l.Pid = p.addr, p.cmd.Process.Pid
	cmd := pinned(b, l.On, inRole(b, roleLoad, l))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(b, err, "%+v", l)
	require.NoError(b, json.Unmarshal(out, &s))
	return s
}
