package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/sdk/apig"
)

func (p *program) exportModelAPI() *cobra.Command {
	var revision int64
	cmd := &cobra.Command{
		Use: "export NAME", Short: "Print a Model API as a document that import takes in, here or elsewhere", Args: cobra.ExactArgs(1),
		Long: `Prints a Model API as a JSON document: services, domains and consumers by their names, and no secret. With --revision it
is an earlier one, of which it is not known who might call.`,
		Example: "  engineshed model-api export chat > chat.json",
	}
	cmd.Flags().Int64Var(&revision, "revision", 0, "number of a revision (default: as it is configured now)")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		id, err := c.apiID(ctx, args[0])
		if err != nil {
			return err
		}
		document, err := c.ExportHttpApi(ctx, id, apig.ExportHttpApiParams{Revision: unlessNone(revision)})
		if err != nil {
			return err
		}
		return printJSON(cmd.OutOrStdout(), document)
	})
}

func (p *program) importModelAPI() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Create or change the Model API that a document describes", Args: cobra.ExactArgs(1),
		Long: `Creates the Model API that a document of export describes, or changes the one of its name, and deploys it when the
document's autoDeploy says so. FILE - is the standard input.`,
		Example: "  engineshed model-api import chat.json --dry-run",
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	return p.clientCommand(cmd, func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		text, err := readFile(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		document, err := readDocument(text)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		return c.importDocument(ctx, cmd, document, dryRun)
	})
}

// readFile reads a file, or the standard input for "-".
func readFile(stdin io.Reader, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(name)
}

// readDocument refuses members that no document has: a misspelled one would have no effect.
func readDocument(text []byte) (apig.HttpApiDocument, error) {
	var document apig.HttpApiDocument
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&document); err != nil {
		return document, fmt.Errorf("this is not a document of a Model API: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return document, errors.New("something follows the document")
	}
	return document, nil
}

func (c *client) importDocument(ctx context.Context, cmd *cobra.Command, document apig.HttpApiDocument, dryRun bool) error {
	result, err := c.ImportHttpApi(ctx, apig.ImportHttpApiRequest{Document: document, DryRun: &dryRun})
	if err != nil {
		return err
	}
	if warning := recordingWarning(&apig.HttpApiDeployConfigs{{PolicyConfigs: statisticsOf(document)}}); warning != "" && !dryRun {
		fmt.Fprintln(cmd.ErrOrStderr(), warning)
	}
	if c.output == "json" {
		return printJSON(cmd.OutOrStdout(), result)
	}
	if err := printChanges(cmd.OutOrStdout(), result.Changes); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.ErrOrStderr(), outcome(result))
	return err
}

// statisticsOf are the document's policies, as far as they say what is recorded.
func statisticsOf(document apig.HttpApiDocument) *apig.HttpApiPolicyConfigs {
	policies := apig.HttpApiPolicyConfigs{}
	if document.PolicyConfigs != nil {
		for _, p := range *document.PolicyConfigs {
			policies = append(policies, apig.HttpApiPolicyConfig{Type: p.Type, Enable: p.Enable, AiStatisticsConfig: p.AiStatisticsConfig})
		}
	}
	return &policies
}

// outcome says in one line what an import did.
func outcome(result *apig.ImportedHttpApi) string {
	did := "changed"
	switch {
	case result.Created:
		did = "created"
	case len(result.Changes) == 0:
		did = "as it was"
	}
	if result.DryRun {
		return fmt.Sprintf("%s would be %s; nothing was changed", result.Name, did)
	}
	if result.Revision == 0 {
		return fmt.Sprintf("%s is %s; it is not deployed", result.Name, did)
	}
	return fmt.Sprintf("%s is %s; gateways serve revision %d", result.Name, did, result.Revision)
}
