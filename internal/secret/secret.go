// Package secret keeps secrets encrypted at rest and unprintable in memory.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a value that prints as [secret] everywhere: fmt, slog, JSON. Reveal is the one way to its text.
type Secret struct{ text string }

// New wraps text.
func New(text string) Secret { return Secret{text} }

// Reveal returns the text. Call it where the secret leaves for its destination, nowhere else.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == "" }

const mask = "[secret]"

// Format hides the text from every verb of fmt.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, mask) }

// String hides the text from what asks for a fmt.Stringer.
func (Secret) String() string { return mask }

// MarshalText hides the text from JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(mask) }
