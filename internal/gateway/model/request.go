package model

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Request is what the JSON of a request says, as far as a gateway has to know it.
type Request struct {
	Model  string // "" when it names none, or more than one
	Stream bool   // the answer is to come as events

	body                   []byte
	open                   int // behind the first brace
	turns                  int
	empty                  bool // {}
	twice                  bool // it names its model more than once, or in other letters
	model, stream, options extent
}

// extent is where a value lies in the body; end is 0 when it is not there.
type extent struct{ start, end int }

func (e extent) of(body []byte) []byte { return body[e.start:e.end] }

// IsReadable reports whether a body that ReadJSON refused with err may be read by others: it is JSON, but not of the
// kind that can be read in one way only.
func IsReadable(err error) bool { return errors.Is(err, errAgain) || errors.Is(err, errDeep) }

// ReadJSON reads a body, which it keeps. It refuses what another reader could read otherwise, but for the model: see
// CheckModel.
func ReadJSON(body []byte) (*Request, error) {
	r, s := &Request{body: body}, scanner{text: body}
	s.space()
	if !s.take('{') {
		return nil, errNotObject
	}
	r.open = s.at
	if err := r.fields(&s); err != nil {
		return nil, err
	}
	if !r.twice {
		r.Model = stringOf(r.model.of(body))
	}
	r.Stream = string(r.stream.of(body)) == "true"
	return r, nil
}

func (r *Request) fields(s *scanner) error {
	s.space()
	if s.take('}') {
		r.empty = true
		return s.finish()
	}
	for {
		key, err := s.key()
		if err != nil {
			return err
		}
		s.space()
		if !s.take(':') {
			return errBroken
		}
		s.space()
		from := s.at
		s.users = 0
		if err := s.value(); err != nil {
			return err
		}
		if err := r.note(key, extent{from, s.at}, s.users); err != nil {
			return err
		}
		s.space()
		switch {
		case s.take(','):
			s.space()
		case s.take('}'):
			return s.finish()
		default:
			return errBroken
		}
	}
}

func (r *Request) note(key []byte, value extent, users int) error {
	var place *extent
	switch string(key) {
	case "stream":
		place = &r.stream
	case "stream_options":
		place = &r.options
	case "messages":
		r.turns = users
		return nil
	default:
		if bytes.EqualFold(key, []byte("model")) {
			r.twice = r.twice || r.model.end > 0 || string(key) != "model"
			r.model = value
		}
		return nil
	}
	if place.end > 0 {
		return errAgain
	}
	*place = value
	return nil
}

// NamesModel reports whether the request has a field for its model, whatever is in it.
func (r *Request) NamesModel() bool { return r.model.end > 0 }

// stringOf is a value that is a string, "" for every other.
func stringOf(value []byte) string {
	if n := len(value); n >= 2 && value[0] == '"' && isPlain(value[1:n-1]) {
		return string(value[1 : n-1])
	}
	return decoded(value)
}

func decoded(value []byte) (text string) {
	_ = json.Unmarshal(value, &text)
	return text
}

// AsksUsage reports whether a stream is to tell the usage at its end.
func (r *Request) AsksUsage() bool {
	var options struct {
		IncludeUsage bool `json:"include_usage"`
	}
	return r.options.end > 0 && json.Unmarshal(r.options.of(r.body), &options) == nil && options.IncludeUsage
}

// Turns is how many messages of the user the request holds, as they are usually written.
func (r *Request) Turns() int { return r.turns }

// Body is the body as it came.
func (r *Request) Body() []byte { return r.body }

// edit puts text in the place of a piece of the body.
type edit struct {
	extent
	text []byte
}

// CheckModel refuses a request whose model another reader could read otherwise.
func (r *Request) CheckModel() error {
	if r.twice {
		return errTwice
	}
	return nil
}

// Splice is the body with the model name in place of its own, unless name is nil, and with the usage asked for at the
// end of the stream. Every other byte stays.
func (r *Request) Splice(name *string, usage bool) Splice {
	edits := make([]edit, 0, 2)
	if name != nil {
		edits = append(edits, r.field("model", r.model, quote(*name)))
	}
	if usage && !r.empty { // an empty request asks for no stream
		edits = append(edits, r.askUsage())
	}
	if len(edits) == 2 && edits[1].start < edits[0].start {
		edits[0], edits[1] = edits[1], edits[0]
	}
	var s Splice
	at := 0
	for i, e := range edits {
		s[2*i], s[2*i+1] = r.body[at:e.start], e.text
		at = e.end
	}
	s[2*len(edits)] = r.body[at:]
	return s
}

// field replaces a value, or puts the field first where there is none.
func (r *Request) field(name string, old extent, value []byte) edit {
	if old.end > 0 {
		return edit{old, value}
	}
	text := append([]byte(`"`+name+`":`), value...)
	if !r.empty {
		text = append(text, ',')
	}
	return edit{extent{r.open, r.open}, text}
}

// askUsage writes include_usage. Options of another type are left for the service to refuse.
func (r *Request) askUsage() edit {
	options := r.options.of(r.body)
	if len(options) == 0 || options[0] != '{' {
		if len(options) > 0 && string(options) != "null" {
			return edit{r.options, options}
		}
		return r.field("stream_options", r.options, []byte(`{"include_usage":true}`))
	}
	s := scanner{text: options, at: 1}
	s.space()
	for first := true; !s.take('}'); first = false {
		if !first && s.take(',') {
			s.space()
		}
		key, err := s.key()
		s.space()
		s.take(':')
		s.space()
		from := s.at
		if err != nil || s.value() != nil {
			return edit{r.options, options} // balanced, but no JSON: the service refuses it
		}
		if string(key) == "include_usage" {
			start := r.options.start
			return edit{extent{start + from, start + s.at}, []byte("true")}
		}
		s.space()
	}
	text := []byte(`"include_usage":true`)
	if len(bytes.TrimSpace(options[1:len(options)-1])) > 0 {
		text = append(text, ',')
	}
	at := r.options.start + 1
	return edit{extent{at, at}, text}
}
