package main

import (
	"fmt"
	"hash/fnv"
	"strings"
	"unicode"
)

// closings make answers to different prompts differ in more than the quotation.
var closings = []string{
	"The engine is warm and the line is clear.",
	"A real engine in this place would think about it now.",
	"Put a model behind this endpoint and ask again.",
	"Every token of this sentence was counted, none was computed.",
}

// filler goes on where a request wants more tokens than the answer has (min_tokens, ignore_eos).
var filler = tokens(" And the wheels on the line go round, and round, and round again.")

// answer is what the stand-in says to a prompt: the same for the same prompt, another for any other. last is the
// part of the prompt that is quoted.
func answer(prompt, last string) string {
	digest := fnv.New64a()
	_, _ = digest.Write([]byte(prompt))
	sum := digest.Sum64()
	return fmt.Sprintf("[simulated] You wrote “%s”. This is vllm-sim, which has no weights, answering prompt %016x. %s",
		excerpt(last, 200), sum, closings[sum%uint64(len(closings))])
}

func excerpt(text string, limit int) string {
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit]) + "…"
}

// tokens splits text into pieces of the size that tokenizers make: whitespace goes with what follows it, long runs
// are cut, every other sign stands alone. The pieces joined are the text.
func tokens(text string) []string {
	const longest = 6
	var pieces []string
	start, size := 0, 0
	var previous rune
	for i, r := range text {
		alike := isWord(previous) && isWord(r) || unicode.IsSpace(previous) && unicode.IsSpace(r)
		led := unicode.IsSpace(previous) && !unicode.IsSpace(r)
		if size > 0 && !led && (!alike || size >= longest) {
			pieces = append(pieces, text[start:i])
			start, size = i, 0
		}
		size++
		previous = r
	}
	if size > 0 {
		pieces = append(pieces, text[start:])
	}
	return pieces
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// cutAt ends text before the first of the stop strings.
func cutAt(text string, stops []string) string {
	for _, stop := range stops {
		if i := strings.Index(text, stop); stop != "" && i >= 0 {
			text = text[:i]
		}
	}
	return text
}
