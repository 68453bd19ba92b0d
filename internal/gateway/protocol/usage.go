package protocol

import (
	"bytes"
	"strconv"
)

// Usage is how many tokens an answer says it took. Providers differ in whether Input holds the Cached ones: Anthropic's
// does not, all others' do.
type Usage struct {
	Known                                   bool // the answer said something
	Input, Output, Total, Cached, Reasoning int64
}

// mostTokens bounds what is believed.
const mostTokens = 1 << 40

// take merges the text of a usage object, under the names that OpenAI, Anthropic, DashScope and vLLM give its counts. A
// later one is nearer to the end: Anthropic says the input first, the output last.
func (u *Usage) take(text []byte) {
	var input, output, total bool
	eachNumber(text, func(within, name []byte, n int64) {
		switch string(name) {
		case "prompt_tokens", "input_tokens":
			u.Input, input = n, true
		case "completion_tokens", "output_tokens":
			u.Output, output = n, true
		case "total_tokens":
			u.Total, total = n, true
		case "cache_read_input_tokens":
			u.Cached = n
		case "cached_tokens":
			if !bytes.HasSuffix(within, []byte("_details")) {
				return
			}
			u.Cached = n
		case "reasoning_tokens":
			if !bytes.HasSuffix(within, []byte("_details")) {
				return
			}
			u.Reasoning = n
		default:
			return
		}
		u.Known = true
	})
	switch {
	case total && !input && !output:
		u.Input = u.Total // a reranking reads only
	case !total && u.Known:
		u.Total = u.Input + u.Output
	}
}

// eachNumber yields the counts in an object and in the objects directly within it. What is not JSON yields anything or
// nothing; numbers in quotes are numbers, too.
func eachNumber(text []byte, yield func(within, name []byte, n int64)) {
	var within, name []byte
	depth, named := 0, false // named: the next value belongs to name
	for at := 0; at < len(text); {
		switch c := text[at]; c {
		case '{', '[':
			if depth++; depth == 2 {
				within = name
			}
			named = false
			at++
		case '}', ']':
			if depth--; depth < 2 {
				within = nil
			}
			named = false
			at++
		case ':':
			named = true
			at++
		case ',':
			named = false
			at++
		case ' ', '\t', '\r', '\n':
			at++
		default:
			value := token(text[at:])
			at += len(value)
			if c == '"' {
				value = bytes.Trim(value, `"`)
			}
			if !named {
				name = value
			} else if n, ok := count(value); ok && depth <= 2 {
				yield(within, name, n)
			}
			named = false
		}
	}
}

// token is the string or the number that text begins with.
func token(text []byte) []byte {
	if text[0] != '"' {
		if end := bytes.IndexAny(text[1:], ",:}]{[\" \t\r\n"); end >= 0 {
			return text[:end+1]
		}
		return text
	}
	for at := 1; at < len(text); at++ {
		switch text[at] {
		case '\\':
			at++
		case '"':
			return text[:at+1]
		}
	}
	return text
}

func count(text []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n, n >= 0 && n <= mostTokens
	}
	n, err := strconv.ParseFloat(string(text), 64)
	return int64(n), err == nil && n >= 0 && n <= mostTokens
}
