// Package glob matches names with patterns, in bounded time and whatever a stranger wrote into them.
package glob

import (
	"strings"
	"unicode/utf8"
)

// Match reports whether pattern matches the whole of s. A * stands for any characters, also none and also : and /;
// a ? stands for exactly one. It takes at most len(pattern) × len(s) steps, whoever wrote the pattern.
func Match(pattern, s string) bool {
	first := literal(pattern)
	if first == len(pattern) {
		return pattern == s
	}
	// Most patterns differ from most names before their first wildcard.
	return len(s) >= first && pattern[:first] == s[:first] && match(pattern[first:], s[first:])
}

// literal is the length of what stands before the first wildcard.
func literal(pattern string) int {
	star := strings.IndexByte(pattern, '*')
	if star < 0 {
		star = len(pattern)
	}
	if mark := strings.IndexByte(pattern[:star], '?'); mark >= 0 {
		return mark
	}
	return star
}

func match(pattern, s string) bool {
	p, i := 0, 0
	afterStar, resume := -1, 0 // behind the last * seen: where the pattern, and where s goes on if the rest does not fit
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			p++
			afterStar, resume = p, i
		case p < len(pattern) && pattern[p] == '?':
			p++
			i += width(s[i:])
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case afterStar >= 0: // let the star take one character more: an earlier star would gain nothing
			resume += width(s[resume:])
			p, i = afterStar, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func width(s string) int {
	_, size := utf8.DecodeRuneInString(s)
	return size
}
