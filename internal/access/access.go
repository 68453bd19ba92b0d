// Package access says who is calling and decides whether they may.
package access

import (
	"context"
	"net/netip"
)

// Caller is the verified sender of one call.
type Caller struct {
	AccountID   string
	UserID      string // "" for the account itself (root)
	UserName    string
	AccessKeyID string
	PolicyEpoch int64 // of the account, read together with the key: compiled policies of another epoch are stale
	SourceIP    netip.Addr
	Secure      bool // the call came over TLS
}

// IsRoot reports whether the account itself is calling: it may do everything in its account.
func (c Caller) IsRoot() bool { return c.UserID == "" }

// ARN names the caller: acs:ram::ACCOUNT:root or acs:ram::ACCOUNT:user/NAME.
func (c Caller) ARN() string {
	if c.IsRoot() {
		return "acs:ram::" + c.AccountID + ":root"
	}
	return "acs:ram::" + c.AccountID + ":user/" + c.UserName
}

type contextKey struct{}

// WithCaller returns a context that carries caller.
func WithCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, contextKey{}, caller)
}

// CallerFrom returns the caller of the request ctx belongs to.
func CallerFrom(ctx context.Context) Caller {
	caller, _ := ctx.Value(contextKey{}).(Caller)
	return caller
}
