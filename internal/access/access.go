// Package access says who is calling and decides whether they may.
package access

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Identity says what kind of principal calls. The zero value is nobody and may do nothing.
type Identity string

// The identities, as GetCallerIdentity spells them.
const (
	Root    Identity = "Account"         // the account itself: it may do everything in its account
	User    Identity = "RAMUser"         // a user, who may do what policies attached to it and its groups allow
	Session Identity = "AssumedRoleUser" // a session of a role, which may do what the role may, less what its session policy leaves out
)

// Caller is the verified sender of one call.
type Caller struct {
	Identity    Identity
	AccountID   string
	UserID      string // of a User
	UserName    string
	RoleID      string // of a Session
	RoleName    string
	SessionName string
	// SessionPolicy is the RAM JSON that AssumeRole was called with, "" for none.
	SessionPolicy string
	AccessKeyID   string
	PolicyEpoch   int64 // of the account, read together with the key: compiled policies of another epoch are stale
	SourceIP      netip.Addr
	Secure        bool      // the call came over TLS
	Time          time.Time // of the call; zero: now
}

// IsRoot reports whether the account itself is calling: it may do everything in its account.
func (c Caller) IsRoot() bool { return c.Identity == Root }

// ARN names the caller: acs:ram::ACCOUNT:root, acs:ram::ACCOUNT:user/NAME or acs:ram::ACCOUNT:role/ROLE/SESSION.
func (c Caller) ARN() string {
	prefix := "acs:ram::" + c.AccountID + ":"
	switch c.Identity {
	case Root:
		return prefix + "root"
	case User:
		return prefix + "user/" + c.UserName
	case Session:
		return prefix + "role/" + c.RoleName + "/" + c.SessionName
	}
	return prefix + "nobody"
}

// check refuses a caller that is not exactly one principal of one account.
func (c Caller) check() error {
	if c.AccountID == "" {
		return errors.New("there is no caller")
	}
	user, role := c.UserID != "", c.RoleID != ""
	switch {
	case c.Identity == Root && !user && !role && c.SessionPolicy == "",
		c.Identity == User && user && !role && c.SessionPolicy == "",
		c.Identity == Session && role && !user:
		return nil
	}
	return fmt.Errorf("the caller is no %q: user id %q, role id %q", c.Identity, c.UserID, c.RoleID)
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
