package record

import (
	"strconv"
	"time"
)

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
