package iam

import (
	"cmp"
	"slices"
)

// What becomes of a thing.
const (
	Created = "Created"
	Changed = "Changed"
	Deleted = "Deleted"
)

// Kinds of things that differ.
const (
	KindAccount    = "Account"
	KindPolicy     = "Policy"
	KindUser       = "User"
	KindGroup      = "Group"
	KindRole       = "Role"
	KindAccessKey  = "AccessKey"
	KindAttachment = "Attachment"
	KindMembership = "GroupMembership"
)

// kinds are the kinds in the order they are told of.
var kinds = []string{KindAccount, KindPolicy, KindUser, KindGroup, KindRole, KindAccessKey, KindMembership, KindAttachment}

// Difference is one thing that policy files change. The secret of an access key is never part of it.
type Difference struct {
	Change    string
	Kind      string
	AccountID string `json:"AccountId,omitempty"` // none: a system policy
	Name      string
	Of        string `json:",omitempty"` // whose key, membership or attachment it is, as user NAME; none: the account's own key
	Facts     []Fact `json:",omitempty"`
}

// Fact is a member of a thing: Before is empty when the thing is created, After when it is deleted, and both when it is a
// secret that changes.
type Fact struct{ Name, Before, After string }

func (d Difference) compare(other Difference) int {
	return cmp.Or(
		cmp.Compare(d.AccountID, other.AccountID),
		cmp.Compare(slices.Index(kinds, d.Kind), slices.Index(kinds, other.Kind)),
		cmp.Compare(d.Of, other.Of), cmp.Compare(d.Name, other.Name), cmp.Compare(d.Change, other.Change),
	)
}

// facts are those of all that differ, unless they are a secret.
func facts(all ...Fact) (different []Fact) {
	for _, f := range all {
		if f.Before != f.After {
			different = append(different, f)
		}
	}
	return different
}
