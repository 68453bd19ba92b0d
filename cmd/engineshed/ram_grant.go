package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/ram"
	"github.com/engineshed/engineshed/sdk/resourcemanager"
)

// kind is a kind of those who have policies.
type kind string

// The kinds, named as the flags of attach are.
const (
	ofUser  kind = "user"
	ofGroup kind = "group"
	ofRole  kind = "role"
)

// principalTypes are the kinds as resourcemanager writes them.
var principalTypes = map[kind]string{ofUser: "IMSUser", ofGroup: "IMSGroup", ofRole: "ServiceRole"}

// principal is somebody who has policies.
type principal struct {
	kind kind
	name string
}

func (p principal) String() string { return string(p.kind) + " " + p.name }

// Types of policies.
const (
	systemPolicy = "System"
	customPolicy = "Custom"
)

// findPolicy takes a policy as people name it: system/NAME, custom/NAME or, of what there is, NAME. The system policy of a
// plain name goes before the account's own.
func (c *client) findPolicy(ctx context.Context, text string) (ofType, name string, err error) {
	if before, after, ok := strings.Cut(text, "/"); ok {
		switch strings.ToLower(before) {
		case "system":
			return systemPolicy, after, nil
		case "custom":
			return customPolicy, after, nil
		}
		return "", "", fmt.Errorf("%q is not a policy: write NAME, system/NAME or custom/NAME", text)
	}
	_, err = c.GetPolicy(ctx, ram.GetPolicyRequest{PolicyType: systemPolicy, PolicyName: text})
	switch {
	case err == nil:
		return systemPolicy, text, nil
	case refusedWith(err, "EntityNotExist.Policy"):
		return customPolicy, text, nil
	case refusedWith(err, "NoPermission"):
		return "", "", fmt.Errorf("whether %s is a system policy cannot be seen: write system/%s or custom/%s (%w)", text, text, text, err)
	}
	return "", "", err
}

// ownPolicy is the name of a policy of the account, as people write it.
func ownPolicy(text string) (string, error) {
	name, isCustom := strings.CutPrefix(text, "custom/")
	if !isCustom && strings.Contains(text, "/") {
		return "", fmt.Errorf("%q is not a custom policy: write NAME; system policies come with the program and do not change", text)
	}
	return name, nil
}

// grant gives a principal a policy, for the whole account or in one resource group.
func (c *client) grant(ctx context.Context, policy string, to principal, groupID string) error {
	ofType, name, err := c.findPolicy(ctx, policy)
	if err != nil {
		return err
	}
	switch {
	case groupID != "":
		_, err = c.AttachPolicy(ctx, resourcemanager.AttachPolicyRequest{
			ResourceGroupId: groupID, PolicyName: name, PolicyType: resourcemanager.AttachPolicyRequestPolicyType(ofType),
			PrincipalName: to.name, PrincipalType: resourcemanager.AttachPolicyRequestPrincipalType(principalTypes[to.kind]),
		})
	case to.kind == ofUser:
		_, err = c.AttachPolicyToUser(ctx, ram.AttachPolicyToUserRequest{
			PolicyType: ram.AttachPolicyToUserRequestPolicyType(ofType), PolicyName: name, UserName: to.name,
		})
	case to.kind == ofGroup:
		_, err = c.AttachPolicyToGroup(ctx, ram.AttachPolicyToGroupRequest{
			PolicyType: ram.AttachPolicyToGroupRequestPolicyType(ofType), PolicyName: name, GroupName: to.name,
		})
	default:
		_, err = c.AttachPolicyToRole(ctx, ram.AttachPolicyToRoleRequest{
			PolicyType: ram.AttachPolicyToRoleRequestPolicyType(ofType), PolicyName: name, RoleName: to.name,
		})
	}
	return err
}

// revoke takes a policy from a principal again.
func (c *client) revoke(ctx context.Context, policy string, from principal, groupID string) error {
	ofType, name, err := c.findPolicy(ctx, policy)
	if err != nil {
		return err
	}
	switch {
	case groupID != "":
		_, err = c.DetachPolicy(ctx, resourcemanager.DetachPolicyRequest{
			ResourceGroupId: groupID, PolicyName: name, PolicyType: resourcemanager.DetachPolicyRequestPolicyType(ofType),
			PrincipalName: from.name, PrincipalType: resourcemanager.DetachPolicyRequestPrincipalType(principalTypes[from.kind]),
		})
	case from.kind == ofUser:
		_, err = c.DetachPolicyFromUser(ctx, ram.DetachPolicyFromUserRequest{
			PolicyType: ram.DetachPolicyFromUserRequestPolicyType(ofType), PolicyName: name, UserName: from.name,
		})
	case from.kind == ofGroup:
		_, err = c.DetachPolicyFromGroup(ctx, ram.DetachPolicyFromGroupRequest{
			PolicyType: ram.DetachPolicyFromGroupRequestPolicyType(ofType), PolicyName: name, GroupName: from.name,
		})
	default:
		_, err = c.DetachPolicyFromRole(ctx, ram.DetachPolicyFromRoleRequest{
			PolicyType: ram.DetachPolicyFromRoleRequestPolicyType(ofType), PolicyName: name, RoleName: from.name,
		})
	}
	return err
}

// whom is what the flags of attach and detach say.
type whom struct{ user, group, role, resourceGroup string }

func (w *whom) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.user, "user", "", "name of a user")
	flags.StringVar(&w.group, "group", "", "name of a group")
	flags.StringVar(&w.role, "role", "", "name of a role")
	flags.StringVar(&w.resourceGroup, "resource-group", "", "only for resources in this group: its id or name (default: the whole account)")
}

func (w *whom) principal() (found principal, err error) {
	count := 0
	for _, p := range []principal{{ofUser, w.user}, {ofGroup, w.group}, {ofRole, w.role}} {
		if p.name != "" {
			found, count = p, count+1
		}
	}
	if count != 1 {
		return principal{}, errors.New("say who, with one of --user, --group and --role")
	}
	return found, nil
}

// change grants or revokes a policy as the flags say.
func (w *whom) change(
	ctx context.Context, c *client, policy string, do func(ctx context.Context, policy string, whom principal, groupID string) error,
) (principal, error) {
	who, err := w.principal()
	if err != nil {
		return who, err
	}
	var groupID string
	if w.resourceGroup != "" {
		if groupID, err = c.resourceGroupID(ctx, w.resourceGroup); err != nil {
			return who, err
		}
	}
	return who, do(ctx, policy, who, groupID)
}

// in is where a policy counts, after a verb.
func (w *whom) in() string {
	if w.resourceGroup == "" {
		return ""
	}
	return " in the resource group " + w.resourceGroup
}

// value is the attachment, for programs.
func (w *whom) value(policy string, who principal) any {
	return struct{ PolicyName, PrincipalType, PrincipalName, ResourceGroup string }{policy, string(who.kind), who.name, w.resourceGroup}
}

func (p *program) attachPolicy() *cobra.Command {
	var w whom
	cmd := &cobra.Command{
		Use: "attach POLICY", Short: "Give a user, group or role a policy", Args: cobra.ExactArgs(1),
		Long: "POLICY is NAME, system/NAME or custom/NAME. It counts from the next call on.",
		Example: "  engineshed ram policy attach AliyunGPDBReadOnlyAccess --user alice\n" +
			"  engineshed ram policy attach AliyunGPDBFullAccess --group search --resource-group search",
	}
	w.addFlags(cmd)
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		who, err := w.change(ctx, c, args[0], c.grant)
		if err != nil {
			return err
		}
		return c.done(cmd, w.value(args[0], who), "The %s has the policy %s%s.", who, args[0], w.in())
	})
}

func (p *program) detachPolicy() *cobra.Command {
	var w whom
	cmd := &cobra.Command{
		Use: "detach POLICY", Short: "Take a policy from a user, group or role", Args: cobra.ExactArgs(1),
		Long:    "POLICY is NAME, system/NAME or custom/NAME. It counts no more from the next call on.",
		Example: "  engineshed ram policy detach AliyunGPDBReadOnlyAccess --user alice",
	}
	w.addFlags(cmd)
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		who, err := w.change(ctx, c, args[0], c.revoke)
		if err != nil {
			return err
		}
		return c.done(cmd, w.value(args[0], who), "The %s does not have the policy %s%s any more.", who, args[0], w.in())
	})
}
