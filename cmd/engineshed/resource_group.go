package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/resourcemanager"
)

func (p *program) resourceGroup() *cobra.Command {
	cmd := &cobra.Command{
		Use: "resource-group", Short: "Manage resource groups: resources that policies are attached for together",
		Long: `A resource is in one group, at first in default. A policy that is attached for a group counts for what is in it:

  engineshed ram policy attach AliyunGPDBFullAccess --user alice --resource-group search

A group is named by its id or its name.`,
	}
	cmd.AddCommand(
		p.createResourceGroup(),
		p.clientCommand(&cobra.Command{
			Use: "list", Short: "List the resource groups of the account", Args: cobra.NoArgs, Example: "  engineshed resource-group list",
		}, listResourceGroups),
		p.clientCommand(&cobra.Command{
			Use: "show GROUP", Short: "Show a group, what is in it and the policies that are attached for it", Args: cobra.ExactArgs(1),
			Example: "  engineshed resource-group show search",
		}, showResourceGroup),
		p.updateResourceGroup(),
		p.clientCommand(&cobra.Command{
			Use: "delete GROUP", Short: "Delete a group that nothing is in, and the attachments of policies for it", Args: cobra.ExactArgs(1),
			Example: "  engineshed resource-group delete search",
		}, deleteResourceGroup),
		p.clientCommand(&cobra.Command{
			Use: "move GROUP RESOURCE...", Short: "Move resources into a group, by their ids", Args: cobra.MinimumNArgs(2),
			Example: "  engineshed resource-group move search gp-0123456789abcdefghij",
		}, moveResources),
	)
	return cmd
}

func (p *program) createResourceGroup() *cobra.Command {
	var displayName string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a resource group", Args: cobra.ExactArgs(1),
		Example: "  engineshed resource-group create search --display-name 'Search team'",
	}
	cmd.Flags().StringVar(&displayName, "display-name", "", "how people call the group (default: the name)")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		made, err := c.CreateResourceGroup(ctx, resourcemanager.CreateResourceGroupRequest{Name: args[0], DisplayName: or(displayName, args[0])})
		if err != nil {
			return err
		}
		return c.show(cmd, made, [][]string{{"Resource group", made.ResourceGroup.Name}, {"Id", made.ResourceGroup.Id}})
	})
}

// resourceGroups returns the account's groups, or those of the name.
func (c *client) resourceGroups(ctx context.Context, name *string) ([]resourcemanager.ResourceGroup, error) {
	all, size := []resourcemanager.ResourceGroup{}, int32(100)
	for number := int32(1); ; number++ {
		page, err := c.ListResourceGroups(ctx, resourcemanager.ListResourceGroupsRequest{Name: name, PageNumber: &number, PageSize: &size})
		if err != nil {
			return nil, err
		}
		all = append(all, page.ResourceGroups.ResourceGroup...)
		if len(page.ResourceGroups.ResourceGroup) == 0 || len(all) >= int(page.TotalCount) {
			return all, nil
		}
	}
}

// resourceGroupID is the id of a group that is named by its id or its name.
func (c *client) resourceGroupID(ctx context.Context, text string) (string, error) {
	if strings.HasPrefix(text, "rg-") {
		return text, nil
	}
	groups, err := c.resourceGroups(ctx, &text)
	if err != nil {
		return "", err
	}
	for _, g := range groups {
		if g.Name == text {
			return g.Id, nil
		}
	}
	return "", fmt.Errorf("there is no resource group %q; `engineshed resource-group list` shows those of the account", text)
}

func listResourceGroups(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	groups, err := c.resourceGroups(ctx, nil)
	if err != nil {
		return err
	}
	return c.show(cmd, map[string]any{"ResourceGroups": groups}, table(groups, func(g resourcemanager.ResourceGroup) []string {
		return []string{g.Name, g.Id, g.DisplayName, g.CreateDate}
	}, "GROUP", "ID", "DISPLAY NAME", "CREATED"))
}

// resources returns what matches a request, all of it.
func (c *client) resources(ctx context.Context, request resourcemanager.ListResourcesRequest) ([]resourcemanager.Resource, error) {
	all, size := []resourcemanager.Resource{}, int32(100)
	for number := int32(1); ; number++ {
		request.PageNumber, request.PageSize = &number, &size
		page, err := c.ListResources(ctx, request)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Resources.Resource...)
		if len(page.Resources.Resource) == 0 || len(all) >= int(page.TotalCount) {
			return all, nil
		}
	}
}

func showResourceGroup(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := c.resourceGroupID(ctx, args[0])
	if err != nil {
		return err
	}
	found, err := c.GetResourceGroup(ctx, resourcemanager.GetResourceGroupRequest{ResourceGroupId: id})
	if err != nil {
		return err
	}
	resources, err := c.resources(ctx, resourcemanager.ListResourcesRequest{ResourceGroupId: &id})
	if err != nil {
		return err
	}
	attachments, err := c.attachments(ctx, resourcemanager.ListPolicyAttachmentsRequest{ResourceGroupId: &id})
	if err != nil {
		return err
	}
	g := found.ResourceGroup
	return c.show(cmd, map[string]any{"ResourceGroup": g, "Resources": resources, "PolicyAttachments": attachments}, [][]string{
		{"Resource group", g.Name}, {"Id", g.Id}, {"Display name", g.DisplayName}, {"Created", g.CreateDate},
	}, table(resources, func(r resourcemanager.Resource) []string {
		return []string{r.ResourceId, r.Service, r.ResourceType, r.CreateDate}
	}, "RESOURCE", "SERVICE", "TYPE", "CREATED"), table(attachments, func(a attachment) []string {
		return []string{a.PolicyName, a.PolicyType, a.PrincipalType, a.PrincipalName, a.Source, a.AttachDate}
	}, "POLICY", "TYPE", "KIND", "NAME", "FROM", "SINCE"))
}

func (p *program) updateResourceGroup() *cobra.Command {
	cmd := &cobra.Command{
		Use: "update GROUP", Short: "Change how people call a group; its name stays", Args: cobra.ExactArgs(1),
		Example: "  engineshed resource-group update search --display-name 'Search and ranking'",
	}
	cmd.Flags().String("display-name", "", "how people call the group")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		given, err := changes(cmd, "display-name")
		if err != nil {
			return err
		}
		id, err := c.resourceGroupID(ctx, args[0])
		if err != nil {
			return err
		}
		changed, err := c.UpdateResourceGroup(ctx, resourcemanager.UpdateResourceGroupRequest{ResourceGroupId: id, NewDisplayName: *given["display-name"]})
		if err != nil {
			return err
		}
		return c.done(cmd, changed, "The resource group %s is changed.", args[0])
	})
}

// deleteResourceGroup deletes a group, or says what must go first.
func deleteResourceGroup(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := c.resourceGroupID(ctx, args[0])
	if err != nil {
		return err
	}
	deleted, refusal := c.DeleteResourceGroup(ctx, resourcemanager.DeleteResourceGroupRequest{ResourceGroupId: id})
	switch {
	case refusal == nil:
		return c.done(cmd, deleted, "The resource group %s is deleted.", args[0])
	case !refusedWith(refusal, "DeleteConflict"):
		return refusal
	}
	resources, err := c.resources(ctx, resourcemanager.ListResourcesRequest{ResourceGroupId: &id})
	if err != nil {
		return refusal // that one may not look is not what it is about
	}
	var commands []string
	if len(resources) > 0 {
		commands = append(commands, "resource-group move default")
		for _, r := range resources {
			commands[0] += " " + r.ResourceId
		}
	}
	return first(refusal, commands)
}

func moveResources(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	id, err := c.resourceGroupID(ctx, args[0])
	if err != nil {
		return err
	}
	request := resourcemanager.MoveResourcesRequest{ResourceGroupId: id}
	for _, resource := range args[1:] {
		found, err := c.resources(ctx, resourcemanager.ListResourcesRequest{ResourceId: &resource})
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("there is no resource %q; `engineshed resource-group show default` lists those that are in no other group", resource)
		}
		request.Resources = append(request.Resources, resourcemanager.MovedResource{
			Service: found[0].Service, ResourceType: found[0].ResourceType, ResourceId: found[0].ResourceId,
		})
	}
	moved, err := c.MoveResources(ctx, request)
	if err != nil {
		return err
	}
	var refusals []error
	for _, r := range moved.Responses {
		if r.Status == resourcemanager.MoveFailed {
			refusals = append(refusals, fmt.Errorf("%s stays where it is: %s: %s", r.ResourceId, r.ErrorCode, r.ErrorMsg))
		}
	}
	if err := errors.Join(refusals...); err != nil {
		return err
	}
	return c.done(cmd, moved, "%d of %d are in the resource group %s.", len(moved.Responses), len(args)-1, args[0])
}
