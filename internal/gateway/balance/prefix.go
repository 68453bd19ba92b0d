package balance

import "hash/crc64"

// kept is how much of a text goes into a key.
const kept = 4 << 10

// PrefixKey is a key for the beginning of the prompt of a request's JSON body, to send requests that begin alike to the
// same replica; false when the body has no prompt. It is the same in every gateway.
//
// An engine keeps what it has computed for a prompt and reuses it for the longest beginning that another prompt shares
// with it. Most is shared by the turns of a conversation: each repeats the one before and adds to it. So the key is of
// what stays the same in all of its turns and tells it from other conversations, which is the first message of the user
// and what the body has before it, the system prompt. A key of the system prompt alone would lead all conversations of an
// application to one replica, and whenever that is too busy a conversation would lose far more than the system prompt,
// which each replica computes once. It would be the better key only for so many applications that no replica has room for
// all of their system prompts.
//
// Of each message only the text counts, and of a text the first 4 KiB: requests whose long texts differ in their end share
// what is before it. Whatever stands behind the first message of the user is not looked at, so that a long conversation
// costs no more than a short one.
func PrefixKey(body []byte) (key uint64, ok bool) {
	p := prefix{reader: reader{text: body}}
	p.fields(p.field)
	return p.sum, p.found
}

type prefix struct {
	reader
	sum    uint64
	found  bool
	left   int  // how much more of the message at hand goes into the key
	within bool // the input of DashScope
}

// field reads a field of the request, and reports whether there may be more to read.
func (p *prefix) field(name []byte) bool {
	p.left = kept
	switch string(name) {
	case "system", "instructions":
		return p.read(0)
	case "messages":
		p.elements(p.message)
	case "prompt":
		p.read(0)
	case "input": // of DashScope an object, of OpenAI messages or a text
		switch c := p.peek(); {
		case c == '{' && p.within:
			return p.skip()
		case c == '{':
			p.within = true
			return p.fields(p.field)
		case c == '[':
			p.elements(p.message)
		default:
			p.read(0)
		}
	default:
		return p.skip()
	}
	return false // what is behind the beginning of the prompt is not looked at
}

// message reads a message, and reports whether it still belongs to the beginning.
func (p *prefix) message() bool {
	p.left = kept
	if p.peek() != '{' {
		p.read(0)
		return false
	}
	user := false
	whole := p.fields(func(name []byte) bool {
		switch string(name) {
		case "role":
			role, ok := p.quoted()
			user = string(role) == "user"
			return ok
		case "content":
			return p.read(0)
		}
		return p.skip()
	})
	return whole && !user
}

// deepest is how far the texts of a message lie in one another.
const deepest = 4

// read takes the text of a value into the key: a string, tokens, or several of them.
func (p *prefix) read(depth int) bool {
	switch c := p.peek(); {
	case depth == deepest:
		return p.skip()
	case c == '"':
		text, ok := p.quoted()
		p.add(text)
		return ok
	case c == '[':
		return p.elements(func() bool { return p.read(depth + 1) })
	case c == '{':
		return p.fields(func(name []byte) bool {
			if string(name) == "text" {
				return p.read(depth + 1)
			}
			return p.skip()
		})
	}
	from := p.at
	ok := p.skip()
	p.add(p.text[from:p.at])
	return ok
}

func (p *prefix) add(text []byte) {
	text = text[:min(len(text), p.left)]
	p.left -= len(text)
	p.found = p.found || len(text) > 0
	p.sum = crc64.Update(p.sum, table, text)
}

var table = crc64.MakeTable(crc64.ECMA)
