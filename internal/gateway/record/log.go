package record

import (
	"encoding/json"
	"io"
	"strconv"
	"time"
)

// requestLog writes the lines of requests, many at once, in the form of the program's other lines.
type requestLog struct {
	to     io.Writer
	buffer line
}

// manyBytes of lines are written without waiting for more: less than a pipe holds, so that writing them does not wait for
// whoever reads.
const manyBytes = 48 << 10

// add adds the line of a record, if it has one.
func (l *requestLog) add(rec *Record) {
	if rec.Line != nil {
		l.buffer = rec.appendLine(l.buffer)
	}
}

func (l *requestLog) areMany() bool { return len(l.buffer) >= manyBytes }

func (l *requestLog) write() {
	if len(l.buffer) > 0 {
		_, _ = l.to.Write(l.buffer) // a log that cannot be written has nobody to be told
	}
	if l.buffer = l.buffer[:0]; cap(l.buffer) > 4*manyBytes {
		l.buffer = nil
	}
}

// line is JSON that grows: at ten thousand lines a second, a general encoder would be what a gateway does most.
type line []byte

// name begins a member. Names are ours, and need no escapes.
func (l line) name(name string) line {
	return append(append(append(l, `,"`...), name...), `":`...)
}

func (l line) text(name, value string) line {
	l = l.name(name)
	for i := range len(value) {
		if c := value[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(value) // strings never fail
			return append(l, quoted...)
		}
	}
	return append(append(append(l, '"'), value...), '"')
}

func (l line) number(name string, n int64) line { return strconv.AppendInt(l.name(name), n, 10) }

// appendLine adds the line of a request. The members of ai_log have the names that dashboards know.
func (r *Record) appendLine(l line) line {
	l = append(l, `{"time":"`...)
	l = r.BeganAt.Add(r.Total).AppendFormat(l, time.RFC3339Nano)
	l = append(l, `","level":"INFO","msg":"request"`...)
	l = l.text("requestId", r.RequestID)
	if r.Line.TraceID != "" {
		l = l.text("traceId", r.Line.TraceID)
	}
	l = l.text("method", r.Line.Method).text("path", r.Line.Path).number("status", int64(r.Status)).
		text("endState", string(r.EndState)).text("api", r.API).text("route", r.Route).text("service", r.Service).
		text("consumer", r.Consumer)
	l = append(l, `,"ai_log":{`...)
	at := len(l)
	l = r.appendAILog(l)
	l = append(l[:at], l[at+1:]...) // the first comma
	return append(l, "}}\n"...)
}

func (r *Record) appendAILog(l line) line {
	kind := "normal"
	if r.Streamed {
		kind = "stream"
	}
	l = l.text("api", r.APIName).text("model", r.loggedModel()).text("response_type", kind).text("consumer", r.consumerLabel()).
		number("llm_service_duration", r.Total.Milliseconds())
	if r.FirstContent > 0 {
		l = l.number("llm_first_token_duration", r.FirstContent.Milliseconds())
	}
	if u := r.Usage; u.Known {
		l = l.number("input_token", u.Input).number("output_token", u.Output).number("total_token", u.Total).
			number("cached_tokens", u.Cached).number("reasoning_tokens", u.Reasoning)
	}
	if r.Line.ChatID != "" {
		l = l.text("chat_id", clean(r.Line.ChatID))
	}
	if r.Line.Turns > 0 {
		l = l.number("chat_round", int64(r.Line.Turns))
	}
	for _, c := range r.Line.Content {
		if c.Text != "" {
			l = l.text(c.Name, c.Text)
		}
	}
	return l
}

func (r *Record) loggedModel() string {
	for _, name := range []string{r.Model, r.ModelAsked} {
		if name != "" {
			return name
		}
	}
	return "UNKNOWN"
}

func (r *Record) consumerLabel() string {
	if r.ConsumerName == "" {
		return "none"
	}
	return r.ConsumerName
}
