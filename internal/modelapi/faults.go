package modelapi

import (
	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/resource"
)

// The refusals of this package.
var (
	// ErrNotFound is also what the product answers for a domain.
	ErrNotFound = fault.New(fault.NotFound, "DatabaseError.RecordNotFound",
		"The Model API does not exist.", "Call ListHttpApis for the ids of this account.")
	ErrGatewayNotFound = fault.New(fault.NotFound, "NotFound.GatewayNotFound",
		"The gateway does not exist.", "Call ListGateways for the ids of this account.")
	ErrEnvironmentNotFound = fault.New(fault.NotFound, "NotFound.EnvironmentNotFound",
		"The environment does not exist on this gateway.", "Call ListEnvironments for the ids of this account.")
	ErrServiceNotFound = fault.New(fault.NotFound, "NotFound.ServiceNotFound",
		"The service does not exist on this gateway.", "Call ListServices for the ids of this account.")
	ErrRouteNotFound = fault.New(fault.NotFound, "NotFound.RouteNotFound",
		"The route does not exist.", "Call ListHttpApiRoutes for the routes of the Model API.")
	ErrRevisionNotFound = fault.New(fault.NotFound, "NotFound.RevisionNotFound",
		"The Model API has no such revision.", "Call ListHttpApiRevisions for those it has.")
	ErrNameDuplicate = fault.New(fault.Conflict, "Conflict.HttpApiNameDuplicate",
		"Another Model API of this account has the name.", "Choose another name, or update that one.")
	ErrRouteNameDuplicate = fault.New(fault.Conflict, "Conflict.HttpApiRouteNameDuplicate",
		"Another route of this Model API has the name.", "Choose another name, or update that one.")
	// ErrPlaceTaken refuses a domain and base path that another Model API answers on.
	ErrPlaceTaken = fault.New(fault.Conflict, "Conflict.ApiRouteConflict",
		"Another Model API has the same domain and base path.", "Choose another base path or domain.")
	ErrName = fault.New(fault.Invalid, "InvalidParameter.Name",
		"A name is 1 to 64 letters, digits, _ and -.", "Send one that is.")
	ErrType = fault.New(fault.Invalid, "InvalidParameter.Type",
		"The type is neither LLM nor Ai, or another than the Model API has.", "Send LLM or Ai; an API keeps the type that it was made with.")
	ErrCategory = fault.New(fault.Invalid, "InvalidParameter.ModelCategory",
		"The modelCategory is not a scenario, or another than the Model API has.",
		"Send one that the message names; an API keeps the one that it was made with.")
	ErrProtocols = fault.New(fault.Invalid, "InvalidParameter.AiProtocols",
		"The aiProtocols do not fit the type or the scenario.",
		"Send some that the message names; docs/model-apis.md lists those of each scenario.")
	ErrBasePath = fault.New(fault.Invalid, "InvalidParameter.BasePath",
		"The basePath is not one.", "Send a path that begins with /, as the message tells.")
	ErrDeployConfigs = fault.New(fault.Invalid, "InvalidParameter.DeployConfigs",
		"The deployConfigs, or what is in them, do not fit together.", "Change the member that the message names.")
	ErrMatch = fault.New(fault.Invalid, "InvalidParameter.Match",
		"The match of the route is not valid.", "Change the member that the message names.")
)

// Kind is the kind of resource of this package.
var Kind = resource.Kind{Name: "HttpApi", Table: "http_api", Prefix: ids.HTTPAPI, Grouped: true, NotFound: notFound}
