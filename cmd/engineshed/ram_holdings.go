package main

import (
	"context"
	"strings"

	"github.com/engineshed/engineshed/sdk/ram"
	"github.com/engineshed/engineshed/sdk/resourcemanager"
)

// wholeAccount stands where the id of a resource group may: the policy counts everywhere.
const wholeAccount = "the whole account"

// attachment is a policy that somebody has, and where.
type attachment struct {
	PolicyType, PolicyName       string
	PrincipalType, PrincipalName string // user, group or role
	ResourceGroupID              string `json:"ResourceGroupId,omitempty"` // none: the whole account
	AttachDate                   string
	Source                       string `json:",omitempty"` // api or file; none where the caller may not see it
}

// end is the command that ends the attachment.
func (a attachment) end() string {
	if a.Source == string(resourcemanager.AttachedByFile) {
		return "policy apply DIR    # when " + a.PolicyName + " of the " + a.PrincipalType + " " + a.PrincipalName + " is taken out of its files"
	}
	command := "ram policy detach " + strings.ToLower(a.PolicyType) + "/" + a.PolicyName + " --" + a.PrincipalType + " " + a.PrincipalName
	if a.ResourceGroupID != "" {
		command += " --resource-group " + a.ResourceGroupID
	}
	return command
}

// attachments returns who has which policy, in resource groups, too. Those of the whole account are marked by its id.
func (c *client) attachments(ctx context.Context, request resourcemanager.ListPolicyAttachmentsRequest) ([]attachment, error) {
	all, size := []attachment{}, int32(100)
	for number, seen := int32(1), 0; ; number++ {
		request.PageNumber, request.PageSize = &number, &size
		page, err := c.ListPolicyAttachments(ctx, request)
		if err != nil {
			return nil, err
		}
		items := page.PolicyAttachments.PolicyAttachment
		for _, item := range items {
			all = append(all, toAttachment(item))
		}
		if seen += len(items); len(items) == 0 || seen >= int(page.TotalCount) {
			return all, nil
		}
	}
}

func toAttachment(item resourcemanager.PolicyAttachment) attachment {
	name, _, _ := strings.Cut(item.PrincipalName, "@")
	a := attachment{
		PolicyType: item.PolicyType, PolicyName: item.PolicyName, PrincipalName: name, ResourceGroupID: item.ResourceGroupId,
		AttachDate: item.AttachDate, Source: string(item.Source),
	}
	for kind, ofType := range principalTypes {
		if ofType == item.PrincipalType {
			a.PrincipalType = string(kind)
		}
	}
	if !strings.HasPrefix(a.ResourceGroupID, "rg-") {
		a.ResourceGroupID = "" // it is the account's id
	}
	return a
}

// attachmentsOf returns the policies that somebody has. Who may see those of the whole account only is shown these.
func (c *client) attachmentsOf(ctx context.Context, who principal) ([]attachment, error) {
	ofType := resourcemanager.ListPolicyAttachmentsRequestPrincipalType(principalTypes[who.kind])
	all, err := c.attachments(ctx, resourcemanager.ListPolicyAttachmentsRequest{PrincipalType: &ofType, PrincipalName: &who.name})
	if !refusedWith(err, "NoPermission") {
		return all, err
	}
	policies, err := c.policiesOf(ctx, who)
	all = []attachment{}
	for _, p := range policies {
		all = append(all, attachment{
			PolicyType: p.PolicyType, PolicyName: p.PolicyName, PrincipalType: string(who.kind), PrincipalName: who.name, AttachDate: *p.AttachDate,
		})
	}
	return all, err
}

// policiesOf returns the policies that somebody has for the whole account.
func (c *client) policiesOf(ctx context.Context, who principal) ([]ram.Policy, error) {
	switch who.kind {
	case ofUser:
		found, err := c.ListPoliciesForUser(ctx, ram.ListPoliciesForUserRequest{UserName: who.name})
		if err != nil {
			return nil, err
		}
		return found.Policies.Policy, nil
	case ofGroup:
		found, err := c.ListPoliciesForGroup(ctx, ram.ListPoliciesForGroupRequest{GroupName: who.name})
		if err != nil {
			return nil, err
		}
		return found.Policies.Policy, nil
	}
	found, err := c.ListPoliciesForRole(ctx, ram.ListPoliciesForRoleRequest{RoleName: who.name})
	if err != nil {
		return nil, err
	}
	return found.Policies.Policy, nil
}

func policiesTable(attachments []attachment) [][]string {
	return table(attachments, func(a attachment) []string {
		return []string{a.PolicyName, a.PolicyType, or(a.ResourceGroupID, wholeAccount), a.Source, a.AttachDate}
	}, "POLICY", "TYPE", "IN", "FROM", "SINCE")
}

// holdings are what somebody has, and what must go first where somebody is to be deleted.
type holdings struct {
	groups []ram.Group     // that a user is in
	users  []ram.User      // that are in a group
	keys   []ram.AccessKey // of a user
	grants []attachment
}

func (c *client) holdingsOf(ctx context.Context, who principal) (h holdings, err error) {
	if h.grants, err = c.attachmentsOf(ctx, who); err != nil {
		return h, err
	}
	switch who.kind {
	case ofUser:
		groups, err := c.ListGroupsForUser(ctx, ram.ListGroupsForUserRequest{UserName: who.name})
		if err != nil {
			return h, err
		}
		keys, err := c.ListAccessKeys(ctx, ram.ListAccessKeysRequest{UserName: &who.name})
		if err != nil {
			return h, err
		}
		h.groups, h.keys = groups.Groups.Group, keys.AccessKeys.AccessKey
	case ofGroup:
		h.users, err = c.members(ctx, who.name)
	}
	return h, err
}

// heldUp adds to a refusal to delete somebody the commands that take away what is in the way.
func (c *client) heldUp(ctx context.Context, refusal error, who principal) error {
	if !refusedWith(refusal, "DeleteConflict") {
		return refusal
	}
	has, err := c.holdingsOf(ctx, who)
	if err != nil {
		return refusal // that one may not look is not what it is about
	}
	var commands []string
	for _, g := range has.groups {
		commands = append(commands, "ram group remove-user "+g.GroupName+" "+who.name)
	}
	for _, u := range has.users {
		commands = append(commands, "ram group remove-user "+who.name+" "+u.UserName)
	}
	for _, k := range has.keys {
		commands = append(commands, "ram access-key delete "+k.AccessKeyId+" --user "+who.name)
	}
	for _, a := range has.grants {
		commands = append(commands, a.end())
	}
	return first(refusal, commands)
}
