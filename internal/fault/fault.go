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

// Fault is a refusal with the code that clients branch on and a message that tells people what happened and what to do.
// A Fault never carries a secret: what it says is sent to the caller as it stands.
type Fault struct {
	Kind    Kind
	Code    string
	Cause   string // what is wrong, in every case
	Next    string // what the caller does next, in every case
	Message string // both, or what is said of the particular case
}

// New declares a fault: its code, what is wrong, and what the caller does next, each a whole sentence. Declare one per
// refusal, beside the rule that raises it, and write all of it as literals: docs/errors.md is made of them.
func New(kind Kind, code, cause, next string) *Fault {
	return &Fault{Kind: kind, Code: code, Cause: cause, Next: next, Message: cause + " " + next}
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
	particular := *f
	particular.Message = fmt.Sprintf(format, args...)
	return &particular
}

// What every operation may refuse. ErrUnsupported is for what the original serves, so that nobody believes it is served here.
var (
	ErrInvalid = New(Invalid, "InvalidParameter",
		"A parameter has a value that is refused, or the request body cannot be read.", "Change the parameter that the message names, within the limit that it tells.")
	ErrUnsupported = New(Invalid, "UnsupportedParameter",
		"A parameter, or its value, is not served here.", "Leave it out, or send a value that the message names.")
	errMissing = New(Invalid, "MissingParameter",
		"A required parameter is absent.", "Send the parameter that the message names.")
)

// InvalidParameter refuses the value of the named parameter; why completes the sentence
// "The parameter NAME is not valid: …".
func InvalidParameter(name, why string) *Fault {
	return ErrInvalid.Withf("The parameter %s is not valid: %s", name, why)
}

// MissingParameter refuses a call that lacks a required parameter.
func MissingParameter(name string) *Fault {
	return errMissing.Withf("The parameter %s is required.", name)
}

// From finds the fault in err's chain.
func From(err error) (*Fault, bool) {
	var f *Fault
	ok := errors.As(err, &f)
	return f, ok
}
