package record

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// columns are those of usage_record, in the order in which a row has them.
var columns = [...]struct{ name, kind string }{
	{"gateway_process", "text"},
	{"began_at", "timestamptz"},
	{"request_id", "text"},
	{"account_id", "text"},
	{"http_api_id", "text"},
	{"http_api_name", "text"},
	{"route", "text"},
	{"service_id", "text"},
	{"service_name", "text"},
	{"model_asked", "text"},
	{"model", "text"},
	{"consumer_id", "text"},
	{"consumer_name", "text"},
	{"end_state", "text"},
	{"status", "integer"},
	{"streamed", "boolean"},
	{"input_tokens", "bigint"},
	{"output_tokens", "bigint"},
	{"total_tokens", "bigint"},
	{"cached_tokens", "bigint"},
	{"reasoning_tokens", "bigint"},
	{"first_content_ms", "bigint"},
	{"total_ms", "bigint"},
	{"operator_key_id", "integer"},
}

// requestIDColumn is where a row has the id of its request.
const requestIDColumn = 2

// copyRecords writes rows as they are. insertRecords takes the values of each column, and leaves out what is there already: a
// connection may break after the commit.
var copyRecords, insertRecords = statements()

func statements() (copies, inserts string) {
	var names, arrays, values []string
	for i, c := range columns {
		names = append(names, c.name)
		arrays = append(arrays, fmt.Sprintf("$%d::text[]", i+1))
		values = append(values, c.name+"::"+c.kind)
	}
	all := strings.Join(names, ", ")
	return "COPY usage_record (" + all + ") FROM STDIN", "INSERT INTO usage_record (" + all + ") SELECT " +
		strings.Join(values, ", ") + " FROM unnest(" + strings.Join(arrays, ", ") + ") AS row (" + all + ") ON CONFLICT DO NOTHING"
}

// batch is rows that are written at once, as COPY reads them. What waits in this form is one piece of memory without pointers,
// which costs the garbage collector nothing.
type batch struct {
	rows  []byte
	count int
}

// add adds a record.
func (b *batch) add(process string, r *Record) {
	b.rows = appendRow(b.rows, process, r)
	b.count++
}

// halves are two batches of a row or more each. Neither grows into the other.
func (b batch) halves() (one, other batch) {
	half, at := b.count/2, 0
	for range half {
		at += bytes.IndexByte(b.rows[at:], '\n') + 1
	}
	return batch{b.rows[:at:at], half}, batch{b.rows[at:], b.count - half}
}

// keep adds batches to others, in as few as may be.
func keep(batches []batch, more ...batch) []batch {
	for _, b := range more {
		if last := len(batches) - 1; last >= 0 && batches[last].count+b.count <= maxBatch {
			batches[last] = batch{append(batches[last].rows, b.rows...), batches[last].count + b.count}
		} else {
			batches = append(batches, b)
		}
	}
	return batches
}

// requestID is of the batch's first row.
func (b batch) requestID() string {
	row, _, _ := bytes.Cut(b.rows, []byte("\n"))
	return string(bytes.Split(row, []byte("\t"))[requestIDColumn])
}

// values are the values of each column, nil for none: []*string.
func (b batch) values() (all []any) {
	var values [len(columns)][]*string
	for row := range bytes.Lines(b.rows) {
		at := 0
		for text := range bytes.SplitSeq(row[:len(row)-1], []byte("\t")) {
			values[at] = append(values[at], valueOf(text))
			at++
		}
	}
	for _, column := range values {
		all = append(all, column)
	}
	return all
}

// unescape is what appendText's escapes stand for.
var unescape = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r")

// valueOf reads one value of a row; nil: none.
func valueOf(text []byte) *string {
	if string(text) == `\N` {
		return nil
	}
	value := unescape.Replace(string(text))
	return &value
}

// appendRow adds a record as COPY reads it in its text form, columns in their order.
func appendRow(row []byte, process string, r *Record) []byte {
	row = appendText(row, process)
	row = append(row, '\t')
	row = r.BeganAt.UTC().AppendFormat(row, time.RFC3339Nano)
	for _, text := range [...]string{
		r.RequestID, r.AccountID, r.API, r.APIName, r.Route, r.Service, r.ServiceName, r.ModelAsked, r.Model,
		r.Consumer, r.ConsumerName, string(r.EndState),
	} {
		row = append(row, '\t')
		row = appendText(row, text)
	}
	row = append(row, '\t')
	row = strconv.AppendInt(row, int64(r.Status), 10)
	row = append(row, '\t')
	row = strconv.AppendBool(row, r.Streamed)
	for _, n := range [...]int64{r.Usage.Input, r.Usage.Output, r.Usage.Total, r.Usage.Cached, r.Usage.Reasoning} {
		row = appendNumber(row, n, r.Usage.Known)
	}
	row = appendNumber(row, r.FirstContent.Milliseconds(), r.FirstContent > 0)
	row = appendNumber(row, r.Total.Milliseconds(), true)
	row = appendNumber(row, int64(r.OperatorKey), r.OperatorKey != 0)
	return append(row, '\n')
}

func appendNumber(row []byte, n int64, known bool) []byte {
	row = append(row, '\t')
	if !known {
		return append(row, `\N`...)
	}
	return strconv.AppendInt(row, n, 10)
}

func appendText(row []byte, text string) []byte {
	from := 0 // of what needs no escape
	for i := range len(text) {
		var escape string
		switch text[i] {
		case '\\':
			escape = `\\`
		case '\t':
			escape = `\t`
		case '\n':
			escape = `\n`
		case '\r':
			escape = `\r`
		default:
			continue
		}
		row = append(append(row, text[from:i]...), escape...)
		from = i + 1
	}
	return append(row, text[from:]...)
}
