package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/gpdb"
)

func (p *program) modelService() *cobra.Command {
	cmd := &cobra.Command{Use: "model-service", Aliases: []string{"ms"}, Short: "Deploy models, see them, change them, take them down"}
	cmd.AddCommand(
		p.createModelService(),
		p.clientCommand(&cobra.Command{Use: "list", Short: "List the model services of a DB instance", Args: cobra.NoArgs}, listModelServices),
		p.clientCommand(&cobra.Command{
			Use: "describe MODEL_SERVICE_ID", Short: "Show one model service with its endpoint and key", Args: cobra.ExactArgs(1),
		}, describeModelService),
		p.modifyModelService(),
		p.clientCommand(&cobra.Command{
			Use: "rotate-key MODEL_SERVICE_ID", Short: "Give a model service a new key, and show it", Args: cobra.ExactArgs(1),
			Long: "Gives a model service a new key. The old one opens nothing any more within five seconds; answers under way are not cut.",
		}, rotateModelServiceKey),
		p.deleteModelService(),
		p.listModelServiceEvents(),
		p.watchModelService(),
		p.modelServiceLogs(),
	)
	return cmd
}

func rotateModelServiceKey(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	instance, err := c.instance(ctx)
	if err != nil {
		return err
	}
	if _, err := c.RotateModelServiceApiKey(ctx, gpdb.RotateModelServiceApiKeyRequest{DBInstanceId: instance, ModelServiceId: args[0]}); err != nil {
		return err
	}
	return describeModelService(ctx, cmd, c, args)
}

func listModelServices(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
	instance, err := c.instance(ctx)
	if err != nil {
		return err
	}
	services, err := c.allServices(ctx, instance)
	if err != nil {
		return err
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), map[string]any{"ModelServices": services})
	}
	rows := [][]string{{"MODEL SERVICE", "MODEL", "STATUS", "NODES", "AGE", "ENDPOINT"}}
	for _, s := range services {
		rows = append(rows, []string{
			s.ModelServiceId, s.ModelName, string(s.Status), strings.Join(s.AiNodes, ","), age(s.CreateTime, time.Now()), s.PrivateConnUrl,
		})
	}
	return printTable(cmd.OutOrStdout(), rows)
}

// allServices reads every page.
func (c *client) allServices(ctx context.Context, instance string) ([]gpdb.ModelServiceSummary, error) {
	services := []gpdb.ModelServiceSummary{}
	size := int32(100)
	for number := int32(1); ; number++ {
		page, err := c.ListModelServices(ctx, gpdb.ListModelServicesRequest{DBInstanceId: instance, PageNumber: &number, PageSize: &size})
		if err != nil {
			return nil, err
		}
		services = append(services, page.ModelServices...)
		if len(page.ModelServices) == 0 || len(services) >= int(page.TotalRecordCount) {
			return services, nil
		}
	}
}

func describeModelService(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
	instance, err := c.instance(ctx)
	if err != nil {
		return err
	}
	service, err := c.DescribeModelService(ctx, gpdb.DescribeModelServiceRequest{DBInstanceId: instance, ModelServiceId: args[0]})
	if err != nil {
		return err
	}
	return c.printService(cmd.OutOrStdout(), service)
}

func (c *client) printService(out io.Writer, service *gpdb.DescribeModelServiceResponse) error {
	if c.output == "json" {
		return printJSON(out, service)
	}
	rows := [][]string{
		{"Model service", service.ModelServiceId},
		{"Model", service.ModelName},
		{"Status", string(service.Status)},
		{"", service.StatusReason},
		{"Description", service.Description},
		{"AI nodes", strings.Join(service.AiNodes, ", ")},
		{"Endpoint", service.PrivateConnectUrl},
		{"Public endpoint", service.PublicConnectUrl},
		{"Allowed addresses", service.SecurityIpList},
		{"ApiKey", service.ApiKey},
		{"Created", service.CreateTime},
	}
	for _, r := range service.Replicas {
		text := string(r.Status)
		if r.StatusReason != "" {
			text += ": " + r.StatusReason
		}
		rows = append(rows, []string{fmt.Sprintf("Replica %d on %s", r.Replica, r.AiNode), text})
	}
	var filled [][]string
	for _, row := range rows {
		if row[1] != "" {
			filled = append(filled, row)
		}
	}
	return printTable(out, filled)
}
