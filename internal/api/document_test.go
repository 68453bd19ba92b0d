package api_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/openapi"
)

func TestTheDocumentsAreValidAndSoAreTheirExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"common.yaml", "gpdb.yaml"} {
		_, err := api.LoadDocument(openapi.Files, name)
		require.NoError(t, err)
	}
}

func TestADocumentIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ replace, with, says string }{
		"an example that does not fit": {"Flag: {type: boolean}", "Flag: {type: boolean, example: maybe}", "boolean"},
		"no permission":                {"x-ram: {action: \"test:Make\"", "x-no-ram: {action: \"test:Make\"", "/Make: x-ram is missing"},
		"another action":               {"action: \"test:Make\"", "action: \"test:Get\"", "/Make: the action of x-ram"},
		"no such further operation":    {"further: [Make]", "further: [Take]", `further names "Take"`},
		"parameters that are refused":  {"      x-client-token: true", "      x-client-token: true\n      x-refused: {Flag: there is none}", "/Make: x-refused is for operations that are paths"},
		"no level":                     {"level: create", "level: some", `/Make: the level of x-ram is "some"`},
		"no ARN":                       {"acs:test::{account}:dbinstance/", "acs:test:x", "/Make: the arn of x-ram"},
		"an ARN of no id":              {"acs:test::{account}:dbinstance/{DBInstanceId}", "acs:test::{account}:dbinstance/{Mode}", "Mode"},
		"another name":                 {"operationId: Make", "operationId: Create", `the operationId is "Create"`},
	} {
		text := strings.Replace(document, c.replace, c.with, 1)
		require.NotEqual(t, document, text, name)
		parsed, err := api.LoadDocument(fstest.MapFS{"test.yaml": {Data: []byte(text)}}, "test.yaml")
		if err == nil {
			product := api.Product{Name: "test", Version: "2016-05-03", Document: parsed, Handler: http.NotFoundHandler()}
			_, err = api.New(api.Config{Products: []api.Product{product}, Log: slog.New(slog.DiscardHandler)})
		}
		require.ErrorContains(t, err, c.says, name)
	}
}
