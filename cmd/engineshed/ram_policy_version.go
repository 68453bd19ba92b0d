package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/ram"
)

func (p *program) ramPolicyVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Manage the versions of a policy, of which one is in force",
		Long: "A policy has at most five versions. Their numbers are never used again.",
	}
	cmd.AddCommand(
		p.createVersion(),
		p.clientCommand(&cobra.Command{
			Use: "list POLICY", Short: "List the versions of a policy", Args: cobra.ExactArgs(1),
			Example: "  engineshed ram policy version list OneInstance",
		}, listVersions),
		p.clientCommand(&cobra.Command{
			Use: "set-default POLICY VERSION", Short: "Put a version in force, such as an earlier one", Args: cobra.ExactArgs(2),
			Example: "  engineshed ram policy version set-default OneInstance v1",
		}, setDefaultVersion),
		p.clientCommand(&cobra.Command{
			Use: "delete POLICY VERSION", Short: "Delete a version that is not in force", Args: cobra.ExactArgs(2),
			Example: "  engineshed ram policy version delete OneInstance v1",
		}, deleteVersion),
	)
	return cmd
}

func (p *program) createVersion() *cobra.Command {
	var file string
	var inForce, rotate bool
	cmd := &cobra.Command{
		Use: "create POLICY", Short: "Add a version to a policy", Args: cobra.ExactArgs(1),
		Example: "  engineshed ram policy version create OneInstance --document one-instance.json --set-default --rotate",
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "document", "", "file with the policy document; - is the standard input")
	flags.BoolVar(&inForce, "set-default", false, "put the version in force")
	flags.BoolVar(&rotate, "rotate", false, "delete the oldest version that is not in force when there are five")
	_ = cmd.MarkFlagRequired("document") // the flag is there
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		name, err := ownPolicy(args[0])
		if err != nil {
			return err
		}
		document, err := readPolicy(cmd, "document", file)
		if err != nil {
			return err
		}
		request := ram.CreatePolicyVersionRequest{PolicyName: name, PolicyDocument: document, SetAsDefault: &inForce}
		if rotate {
			request.RotateStrategy = new(ram.RotateOldest)
		}
		made, err := c.CreatePolicyVersion(ctx, request)
		switch {
		case refusedWith(err, "LimitExceeded.Policy.Version"):
			return fmt.Errorf("%w\nWith --rotate the oldest that is not in force makes room", err)
		case err != nil:
			return err
		}
		return c.done(cmd, made, "The policy %s has the version %s%s.", name, made.PolicyVersion.VersionId,
			map[bool]string{true: ", which is in force", false: ", which is not in force"}[made.PolicyVersion.IsDefaultVersion])
	})
}

func (c *client) versions(ctx context.Context, ofType, policy string) ([]ram.PolicyVersion, error) {
	found, err := c.ListPolicyVersions(ctx, ram.ListPolicyVersionsRequest{
		PolicyType: ram.ListPolicyVersionsRequestPolicyType(ofType), PolicyName: policy,
	})
	if err != nil {
		return nil, err
	}
	return found.PolicyVersions.PolicyVersion, nil
}

func listVersions(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	ofType, name, err := c.findPolicy(ctx, args[0])
	if err != nil {
		return err
	}
	versions, err := c.versions(ctx, ofType, name)
	if err != nil {
		return err
	}
	return c.show(cmd, map[string]any{"PolicyVersions": versions}, table(versions, func(v ram.PolicyVersion) []string {
		return []string{v.VersionId, map[bool]string{true: "yes"}[v.IsDefaultVersion], v.CreateDate}
	}, "VERSION", "IN FORCE", "CREATED"))
}

func setDefaultVersion(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	name, err := ownPolicy(args[0])
	if err != nil {
		return err
	}
	done, err := c.SetDefaultPolicyVersion(ctx, ram.SetDefaultPolicyVersionRequest{PolicyName: name, VersionId: args[1]})
	if err != nil {
		return err
	}
	return c.done(cmd, done, "The version %s of the policy %s is in force.", args[1], name)
}

func deleteVersion(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	name, err := ownPolicy(args[0])
	if err != nil {
		return err
	}
	done, err := c.DeletePolicyVersion(ctx, ram.DeletePolicyVersionRequest{PolicyName: name, VersionId: args[1]})
	if refusedWith(err, "DeleteConflict.Policy.Version.Default") {
		return first(err, []string{"ram policy version set-default " + name + " VERSION"})
	}
	if err != nil {
		return err
	}
	return c.done(cmd, done, "The version %s of the policy %s is deleted.", args[1], name)
}
