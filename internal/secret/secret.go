// Package secret keeps secrets encrypted at rest and unprintable in memory.
package secret

import "log/slog"

// Secret is a value that prints as [secret] everywhere: fmt, slog, JSON. Reveal is the one way to its text.
type Secret struct{ text string }

// New wraps text.
func New(text string) Secret { return Secret{text} }

// Reveal returns the text. Call it where the secret leaves for its destination, nowhere else.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == "" }

const mask = "[secret]"

func (Secret) String() string               { return mask }
func (Secret) GoString() string             { return mask }
func (Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(mask) }
