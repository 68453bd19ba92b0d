// Package fault holds the refusals a caller can act on, as Go errors with a code and a sentence.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what sort of refusal a Fault is. Only internal/api turns a Kind into an HTTP status.
type Kind int

// The kinds, in the order of the statuses they become: 400, 403, 404, 405, 409, 413, 415, 429, 503.
const (
	Invalid Kind = iota + 1
	Denied
	NotFound
	MethodNotAllowed
	Conflict
	TooLarge
	UnsupportedMedia
	Throttled
	Unavailable
)

// Fault is a refusal with the code that clients branch on and a message that tells people what to do.
// A Fault never carries a secret: its message is sent to the caller as it stands.
type Fault struct {
	Kind    Kind
	Code    string
	Message string
}

// New declares a fault. Declare one per refusal, beside the rule that raises it.
func New(kind Kind, code, message string) *Fault {
	return &Fault{Kind: kind, Code: code, Message: message}
}

func (f *Fault) Error() string { return f.Code + ": " + f.Message }

// Is reports whether target is a fault with the same code, so that errors.Is finds a declared fault
// behind a copy whose message names the particular case.
func (f *Fault) Is(target error) bool {
	other, ok := target.(*Fault)
	return ok && other.Code == f.Code
}

// Withf returns a copy of f whose message names the particular case.
func (f *Fault) Withf(format string, args ...any) *Fault {
	return New(f.Kind, f.Code, fmt.Sprintf(format, args...))
}

// InvalidParameter refuses the value of the named parameter; why completes the sentence
// "The parameter NAME is not valid: …".
func InvalidParameter(name, why string) *Fault {
	return New(Invalid, "InvalidParameter", fmt.Sprintf("The parameter %s is not valid: %s", name, why))
}

// MissingParameter refuses a call that lacks a required parameter.
func MissingParameter(name string) *Fault {
	return New(Invalid, "MissingParameter", fmt.Sprintf("The parameter %s is required.", name))
}

// From finds the fault in err's chain.
func From(err error) (*Fault, bool) {
	var f *Fault
	ok := errors.As(err, &f)
	return f, ok
}
