package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// vocabulary numbers tokens in the order in which they are first seen.
type vocabulary struct {
	mu     sync.Mutex
	ids    map[string]int
	pieces []string
}

func (v *vocabulary) id(piece string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	id, known := v.ids[piece]
	if !known {
		id = len(v.pieces)
		v.ids[piece], v.pieces = id, append(v.pieces, piece)
	}
	return id
}

// piece returns the token with the number.
func (v *vocabulary) piece(id int) (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if id < 0 || id >= len(v.pieces) {
		return "", false
	}
	return v.pieces[id], true
}

// tokenizeRequest is a prompt or a conversation.
type tokenizeRequest struct {
	request
	Strings bool `json:"return_token_strs"`
}

func (e *engine) tokenize(w http.ResponseWriter, r *http.Request) {
	var asked tokenizeRequest
	if !e.read(w, r, &asked) {
		return
	}
	prompt := asked.Prompt.text
	if !asked.Prompt.given {
		prompt, _ = asked.conversation()
	}
	if !asked.Prompt.given && len(asked.Messages) == 0 {
		refuseHTTP(w, http.StatusBadRequest, "BadRequestError", "prompt or messages is required", nil)
		return
	}
	pieces := tokens(prompt)
	ids := make([]int, len(pieces))
	for i, piece := range pieces {
		ids[i] = e.vocabulary.id(piece)
	}
	answer := fields{"count": len(ids), "max_model_len": e.maxModelLen, "tokens": ids, "token_strs": nil}
	if asked.Strings {
		answer["token_strs"] = pieces
	}
	writeJSON(w, http.StatusOK, answer)
}

type detokenizeRequest struct {
	Model  string `json:"model"`
	Tokens []int  `json:"tokens"`
}

func (d *detokenizeRequest) model() string { return d.Model }

func (e *engine) detokenize(w http.ResponseWriter, r *http.Request) {
	var asked detokenizeRequest
	if !e.read(w, r, &asked) {
		return
	}
	var text strings.Builder
	for _, id := range asked.Tokens {
		piece, ok := e.vocabulary.piece(id)
		if !ok {
			refuseHTTP(w, http.StatusBadRequest, "BadRequestError", fmt.Sprintf("token %d is not one that this simulated engine has made", id), "tokens")
			return
		}
		text.WriteString(piece)
	}
	writeJSON(w, http.StatusOK, fields{"prompt": text.String()})
}
