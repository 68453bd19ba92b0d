// Package ram answers the operations of ram 2015-05-01: it converts, calls and converts back.
package ram

import (
	"context"
	"fmt"

	"github.com/engineshed/engineshed/internal/access"
	"github.com/engineshed/engineshed/internal/api"
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/iam/directory"
	ramapi "github.com/engineshed/engineshed/internal/oapi/ram"
	"github.com/engineshed/engineshed/openapi"
)

// Server implements the generated interface.
type Server struct{ directory *directory.Directory }

// Product is ram as api.New takes it.
func Product(d *directory.Directory) (api.Product, error) {
	document, err := api.LoadDocument(openapi.Files, "ram.yaml")
	if err != nil {
		return api.Product{}, fmt.Errorf("ram: %w", err)
	}
	strict := ramapi.NewStrictHandlerWithOptions(&Server{d}, nil, ramapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: api.Fail, ResponseErrorHandlerFunc: api.Fail,
	})
	return api.Product{Name: "ram", Version: document.Info.Version, Document: document, Handler: ramapi.Handler(strict)}, nil
}

func accountOf(ctx context.Context) string { return access.CallerFrom(ctx).AccountID }

// userOrCaller returns the user that is named or, where none is, the one who calls; "" is the account itself.
func userOrCaller(ctx context.Context, name *string) (string, error) {
	caller := access.CallerFrom(ctx)
	switch {
	case name != nil:
		return *name, nil
	case caller.Identity == access.Root:
		return "", nil
	case caller.Identity == access.User:
		return caller.UserName, nil
	}
	return "", fault.MissingParameter("UserName")
}
