package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/ram"
	"github.com/engineshed/engineshed/sdk/resourcemanager"
)

func (p *program) ramPolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "Manage policies: what may be done, and who has them",
		Long: "A policy is named NAME, system/NAME or custom/NAME. System policies come with the program; the account's own are custom.",
	}
	cmd.AddCommand(
		p.createPolicy(), p.listPolicies(), p.showPolicy(), p.describePolicy(),
		p.clientCommand(&cobra.Command{
			Use: "delete NAME", Short: "Delete a policy that nobody has and that has one version", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram policy delete OneInstance",
		}, deletePolicy),
		p.attachPolicy(), p.detachPolicy(),
		p.clientCommand(&cobra.Command{
			Use: "who POLICY", Short: "List the users, groups and roles that have a policy", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram policy who AdministratorAccess",
		}, whoHasPolicy),
		p.ramPolicyVersion(),
	)
	return cmd
}

func (p *program) createPolicy() *cobra.Command {
	var file, description string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a policy of a document", Args: cobra.ExactArgs(1),
		Example: "  engineshed ram policy create OneInstance --document one-instance.json",
	}
	cmd.Flags().StringVar(&file, "document", "", "file with the policy document; - is the standard input")
	cmd.Flags().StringVar(&description, "description", "", "a note for people")
	_ = cmd.MarkFlagRequired("document") // the flag is there
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		document, err := readPolicy(cmd, "document", file)
		if err != nil {
			return err
		}
		made, err := c.CreatePolicy(ctx, ram.CreatePolicyRequest{PolicyName: args[0], PolicyDocument: document, Description: unlessNone(description)})
		if err != nil {
			return err
		}
		return c.show(cmd, made, [][]string{{"Policy", made.Policy.PolicyName}, {"Version", made.Policy.DefaultVersion}})
	})
}

func (p *program) listPolicies() *cobra.Command {
	var ofType string
	cmd := &cobra.Command{
		Use: "list", Short: "List system policies and those of the account", Args: cobra.NoArgs, Example: "  engineshed ram policy list --type custom",
	}
	cmd.Flags().StringVar(&ofType, "type", "", "only system, or only custom policies")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		request := ram.ListPoliciesRequest{}
		switch strings.ToLower(ofType) {
		case "":
		case "system":
			request.PolicyType = new(ram.ListPoliciesRequestPolicyTypeSystem)
		case "custom":
			request.PolicyType = new(ram.ListPoliciesRequestPolicyTypeCustom)
		default:
			return fmt.Errorf("--type takes system or custom, not %q", ofType)
		}
		return c.listPolicies(ctx, cmd, request)
	})
}

func (c *client) listPolicies(ctx context.Context, cmd *cobra.Command, request ram.ListPoliciesRequest) error {
	policies, err := allPages(func(marker *string) ([]ram.Policy, string, bool, error) {
		request.Marker = marker
		page, err := c.ListPolicies(ctx, request)
		if err != nil {
			return nil, "", false, err
		}
		return page.Policies.Policy, page.Marker, page.IsTruncated, nil
	})
	if err != nil {
		return err
	}
	return c.show(cmd, map[string]any{"Policies": policies}, table(policies, func(p ram.Policy) []string {
		return []string{p.PolicyName, p.PolicyType, p.DefaultVersion, strconv.Itoa(int(p.AttachmentCount)), string(p.Source), p.Description}
	}, "POLICY", "TYPE", "VERSION", "ATTACHED", "FROM", "DESCRIPTION"))
}

func (p *program) showPolicy() *cobra.Command {
	var version string
	var onlyDocument bool
	cmd := &cobra.Command{
		Use: "show POLICY", Short: "Show a policy and its document", Args: cobra.ExactArgs(1),
		Example: "  engineshed ram policy show OneInstance\n  engineshed ram policy show OneInstance --document > one-instance.json",
	}
	cmd.Flags().StringVar(&version, "version", "", "show this version (default: the one in force)")
	cmd.Flags().BoolVar(&onlyDocument, "document", false, "print the document alone, as it was written")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		policy, shown, err := c.policy(ctx, args[0], version)
		if err != nil {
			return err
		}
		if onlyDocument {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSuffix(shown.PolicyDocument, "\n"))
			return err
		}
		inForce := shown.VersionId
		if !shown.IsDefaultVersion {
			inForce += "; in force is " + policy.DefaultVersion
		}
		err = c.show(cmd, map[string]any{"Policy": policy, "PolicyVersion": shown}, [][]string{
			{"Policy", policy.PolicyName},
			{"Type", policy.PolicyType},
			{"Description", policy.Description},
			{"Version", inForce},
			{"Attached", strconv.Itoa(int(policy.AttachmentCount))},
			{"From", string(policy.Source)},
			{"Changed", policy.UpdateDate},
		})
		if err != nil || c.output == "json" {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "\n%s\n", pretty(shown.PolicyDocument))
		return err
	})
}

// policy returns a policy and a version of it, or the one in force.
func (c *client) policy(ctx context.Context, text, version string) (ram.Policy, ram.PolicyVersion, error) {
	ofType, name, err := c.findPolicy(ctx, text)
	if err != nil {
		return ram.Policy{}, ram.PolicyVersion{}, err
	}
	found, err := c.GetPolicy(ctx, ram.GetPolicyRequest{PolicyType: ram.GetPolicyRequestPolicyType(ofType), PolicyName: name})
	if err != nil {
		return ram.Policy{}, ram.PolicyVersion{}, err
	}
	if version == "" {
		return found.Policy, found.DefaultPolicyVersion, nil
	}
	other, err := c.GetPolicyVersion(ctx, ram.GetPolicyVersionRequest{
		PolicyType: ram.GetPolicyVersionRequestPolicyType(ofType), PolicyName: name, VersionId: version,
	})
	if err != nil {
		return ram.Policy{}, ram.PolicyVersion{}, err
	}
	return found.Policy, other.PolicyVersion, nil
}

// pretty lays a document out, one member a line.
func pretty(document string) string {
	var laidOut bytes.Buffer
	if json.Indent(&laidOut, []byte(document), "", "  ") != nil {
		return document
	}
	return strings.TrimSpace(laidOut.String())
}

func (p *program) describePolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change the description of a policy", Args: cobra.ExactArgs(1),
		Long:    `What a policy says is changed by a new version: see "engineshed ram policy version create".`,
		Example: "  engineshed ram policy update OneInstance --description 'one instance only'",
	}
	cmd.Flags().String("description", "", "a note for people")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		given, err := changes(cmd, "description")
		if err != nil {
			return err
		}
		name, err := ownPolicy(args[0])
		if err != nil {
			return err
		}
		changed, err := c.UpdatePolicyDescription(ctx, ram.UpdatePolicyDescriptionRequest{PolicyName: name, NewDescription: *given["description"]})
		if err != nil {
			return err
		}
		return c.done(cmd, changed, "The policy %s is changed.", name)
	})
}

// deletePolicy deletes a policy, or says what must go first.
func deletePolicy(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	name, err := ownPolicy(args[0])
	if err != nil {
		return err
	}
	deleted, refusal := c.DeletePolicy(ctx, ram.DeletePolicyRequest{PolicyName: name})
	switch {
	case refusal == nil:
		return c.done(cmd, deleted, "The policy %s is deleted.", name)
	case !refusedWith(refusal, "DeleteConflict"):
		return refusal
	}
	attachments, err := c.attachmentsTo(ctx, customPolicy, name)
	if err != nil {
		return refusal // that one may not look is not what it is about
	}
	var commands []string
	for _, a := range attachments {
		commands = append(commands, a.end())
	}
	versions, err := c.versions(ctx, customPolicy, name)
	if err != nil {
		return refusal
	}
	for _, v := range versions {
		if !v.IsDefaultVersion {
			commands = append(commands, "ram policy version delete "+name+" "+v.VersionId)
		}
	}
	return first(refusal, commands)
}

func whoHasPolicy(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	ofType, name, err := c.findPolicy(ctx, args[0])
	if err != nil {
		return err
	}
	attachments, err := c.attachmentsTo(ctx, ofType, name)
	if err != nil {
		return err
	}
	return c.show(cmd, map[string]any{"PolicyAttachments": attachments}, holdersTable(attachments))
}

func holdersTable(attachments []attachment) [][]string {
	return table(attachments, func(a attachment) []string {
		return []string{a.PrincipalType, a.PrincipalName, or(a.ResourceGroupID, wholeAccount), a.Source, a.AttachDate}
	}, "KIND", "NAME", "IN", "FROM", "SINCE")
}

// attachmentsTo returns who has a policy. Who may see the holders in the whole account only is shown these.
func (c *client) attachmentsTo(ctx context.Context, ofType, policy string) ([]attachment, error) {
	// A policy without attachments and one that does not exist look the same to ListPolicyAttachments.
	entities, err := c.ListEntitiesForPolicy(ctx, ram.ListEntitiesForPolicyRequest{
		PolicyType: ram.ListEntitiesForPolicyRequestPolicyType(ofType), PolicyName: policy,
	})
	if err != nil {
		return nil, err
	}
	request := resourcemanager.ListPolicyAttachmentsRequest{PolicyName: &policy}
	request.PolicyType = new(resourcemanager.ListPolicyAttachmentsRequestPolicyType(ofType))
	all, err := c.attachments(ctx, request)
	if !refusedWith(err, "NoPermission") {
		return all, err
	}
	all = []attachment{}
	add := func(of kind, name string, since *string) {
		all = append(all, attachment{
			PolicyType: ofType, PolicyName: policy, PrincipalType: string(of), PrincipalName: name, AttachDate: *since,
		})
	}
	for _, u := range entities.Users.User {
		add(ofUser, u.UserName, u.AttachDate)
	}
	for _, g := range entities.Groups.Group {
		add(ofGroup, g.GroupName, g.AttachDate)
	}
	for _, r := range entities.Roles.Role {
		add(ofRole, r.RoleName, r.AttachDate)
	}
	return all, nil
}
