package gateway

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/protocol"
)

const (
	// maxHeld is how much of an answer is held back until its content begins, or until it is whole.
	maxHeld = 1 << 20
	// maxEvent is how much of an event is held back until it is whole. From a longer one on, a stream passes as it comes.
	maxEvent = 1 << 20
	// maxEventLine is how long a line of a stream may be.
	maxEventLine = 64 << 20
	// maxKept is how much memory a quiet stream may keep.
	maxKept = 4 << 10
)

// Why an answer is given up.
var (
	errFirstContentLate = errors.New("no content came in time")
	errIdleTooLong      = errors.New("nothing more came for too long")
	errHeldTooMuch      = errors.New("more came before the first content than is held back")
	errLineTooLong      = errors.New("a line of the stream is too long")
	errNoEnd            = errors.New("the stream ended before the answer did")
)

// answer is what a service answers, on its way to the client, and is read while it passes. A stream of events passes in
// whole events, so that an error of its protocol can follow where it breaks off. It is for one goroutine.
type answer struct {
	from     io.ReadCloser
	reader   protocol.Answer
	events   bool               // it passes in whole events
	chat     bool               // it is a stream that says when the answer is over
	farewell func(error) []byte // what a stream that broke off ends with; nil: nothing

	waiting []byte // whole events that Read has not returned yet, and the start of the next
	whole   int    // how much of waiting is whole
	line    int    // where in waiting the line begins that has no end yet
	looked  int    // how far that end has been looked for
	inEvent bool   // the event that is not whole has a field
	holding bool   // what is no field is not kept
	inParts bool   // an event was too long to be held back
	length  int    // then: of the line that has no end yet

	first time.Time // when content came, or the first byte of what is no stream of events
	begun func()    // is told that; nil: nobody
	err   error     // why it broke off
	end   error     // what Read returns behind all that is waiting

	idle    *time.Timer
	limit   time.Duration // how long nothing may come; 0: as long as it takes
	reading atomic.Bool   // the service is waited for, and not the client
	expired atomic.Bool   // nothing came for so long
}

// passInEvents has a stream of events pass in whole ones. One of a chat says when the answer is over.
func (a *answer) passInEvents(chat bool, farewell func(error) []byte) {
	a.events, a.chat, a.farewell = true, chat, farewell
}

// awaitPieces closes the answer when nothing comes for so long.
func (a *answer) awaitPieces(limit time.Duration) {
	a.limit = limit
}

// watch has the answer closed when nothing comes for so long. What is here already is not waited for.
func (a *answer) watch() {
	if here, ok := a.from.(interface{ Ready() bool }); a.limit == 0 || ok && here.Ready() {
		return
	}
	if a.idle == nil {
		a.idle = time.AfterFunc(a.limit, a.expire)
	} else {
		a.idle.Reset(a.limit)
	}
	a.reading.Store(true)
}

func (a *answer) expire() {
	if a.reading.Load() {
		a.expired.Store(true)
		_ = a.from.Close()
	}
}

func (a *answer) Read(p []byte) (int, error) {
	for {
		switch {
		case a.whole > 0:
			return a.take(p), nil
		case a.end != nil:
			return 0, a.end
		}
		n, err := a.fetch(p)
		n = a.sift(p[:n])
		if err == nil && a.length > maxEventLine {
			err = errLineTooLong
		}
		if err != nil {
			a.finish(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// isWhole reports whether all of it has been read, and nothing is missing.
func (a *answer) isWhole() bool { return a.end == io.EOF && a.err == nil && a.whole == 0 } //nolint:errorlint // it is set so

// Close ends the answer.
func (a *answer) Close() error {
	a.stop()
	return a.from.Close()
}

// stop ends the watch over the pieces.
func (a *answer) stop() {
	if a.idle != nil {
		a.idle.Stop()
	}
}

// fetch reads from the service, and leaves out what its reader takes out.
func (a *answer) fetch(p []byte) (int, error) {
	held := a.reader.Unhold(p)
	if held == len(p) {
		return held, nil
	}
	a.watch()
	n, err := a.from.Read(p[held:])
	a.reading.Store(false)
	piece := p[:held+n]
	n = a.reader.Read(piece, err != nil || len(p) < smallBuffer) // what is held back must find its place next time
	if a.reader.Content || !a.events && n > 0 {
		a.begin()
	}
	return n, err
}

// sift returns how much of a piece, all or nothing, passes at once. The rest waits.
func (a *answer) sift(piece []byte) int {
	switch {
	case a.inParts:
		a.measure(piece)
		return len(piece)
	case !a.events, len(a.waiting) == 0 && endsEvent(piece):
		return len(piece)
	}
	if a.keep(piece); len(a.waiting)-a.whole > maxEvent {
		a.passInParts()
	}
	return 0
}

// passInParts passes on what is there of an event, and the rest of the stream as it comes.
func (a *answer) passInParts() {
	a.measure(a.waiting[a.whole:])
	a.whole, a.events, a.inParts = len(a.waiting), false, true
	a.begin()
}

// begin takes note that content has come.
func (a *answer) begin() {
	if !a.first.IsZero() {
		return
	}
	if a.first = time.Now(); a.begun != nil {
		a.begun()
	}
}

func endsEvent(piece []byte) bool {
	return bytes.HasSuffix(piece, []byte("\n\n")) || bytes.HasSuffix(piece, []byte("\r\n\r\n"))
}

// measure follows how long the line is that events in parts are in.
func (a *answer) measure(piece []byte) {
	if end := bytes.LastIndexByte(piece, '\n'); end >= 0 {
		a.length, piece = 0, piece[end+1:]
	}
	a.length += len(piece)
}

// keep adds a piece to what waits and finds out how much of that is whole: events, and comments between them.
func (a *answer) keep(piece []byte) {
	a.waiting = append(a.waiting, piece...)
	for {
		end := bytes.IndexByte(a.waiting[a.looked:], '\n')
		if end < 0 {
			a.looked = len(a.waiting)
			return
		}
		next := a.looked + end + 1
		line := a.waiting[a.line:next]
		blank := len(bytes.TrimRight(line, "\r\n")) == 0
		switch {
		case !blank && (a.inEvent || line[0] != ':'):
			a.inEvent = true
		case !a.inEvent && a.holding:
			a.waiting = append(a.waiting[:a.line], a.waiting[next:]...)
			next = a.line
		default:
			a.inEvent, a.whole = false, next
		}
		a.line, a.looked = next, next
	}
}

// take moves what is whole into p.
func (a *answer) take(p []byte) int {
	n := copy(p, a.waiting[:a.whole])
	a.waiting = append(a.waiting[:0], a.waiting[n:]...)
	a.whole, a.line, a.looked = a.whole-n, max(a.line-n, 0), max(a.looked-n, 0)
	if len(a.waiting) == 0 && cap(a.waiting) > maxKept {
		a.waiting = nil
	}
	return n
}

// finish decides how the answer ends when nothing more comes: cleanly, with an error of its protocol, or not at all.
func (a *answer) finish(err error) {
	atEnd := errors.Is(err, io.EOF)
	if atEnd && (!a.reader.Content || a.isOver()) || a.chat && a.reader.Ended || a.reader.Failed {
		if !atEnd {
			a.waiting = a.waiting[:a.whole]
		}
		a.whole, a.end = len(a.waiting), io.EOF
		return
	}
	a.brokeOff(err)
	a.end = a.err
	if !a.events || a.farewell == nil {
		return
	}
	if words := a.farewell(a.err); words != nil {
		a.waiting = append(a.waiting[:a.whole], words...)
		a.whole, a.end = len(a.waiting), io.EOF
	}
}

// isOver reports whether an answer of which nothing more comes is a whole one: the stream of a chat says so.
func (a *answer) isOver() bool {
	if !a.chat {
		return true
	}
	a.reader.End() // the last line may have no end
	return a.reader.Final || a.reader.Failed
}

func (a *answer) brokeOff(err error) {
	switch {
	case a.expired.Load():
		err = errIdleTooLong
	case errors.Is(err, io.EOF):
		err = errNoEnd
	}
	a.err = err
}

// hold reads on until content or an error has come, of an answer that is no stream until it is whole, and returns why that
// did not happen. Nothing of it has been passed on then.
func (a *answer) hold() error {
	a.holding = true
	defer func() { a.holding = false }()
	piece := takeBuffer(0)
	defer piece.put()
	for !a.reader.Content && !a.reader.Failed {
		n, err := a.fetch(piece)
		if a.events {
			a.keep(piece[:n])
		} else {
			a.waiting = append(a.waiting, piece[:n]...)
			a.whole = len(a.waiting)
		}
		switch {
		case errors.Is(err, io.EOF) && a.isOver():
			a.whole, a.end = len(a.waiting), io.EOF
			return nil
		case err != nil:
			a.brokeOff(err)
			return a.err
		case a.events && len(a.waiting)-a.whole > maxEvent && a.waiting[a.whole] != ':':
			a.passInParts() // nothing but content is that long
			return nil
		case a.events && len(a.waiting) > maxHeld:
			a.err = errHeldTooMuch
			return a.err
		case len(a.waiting) > maxHeld:
			return nil
		}
	}
	return nil
}
