// Package aiservice keeps the upstream services that Model APIs forward to: whose they are, where they answer, which
// keys they take, and what of that gateways see.
package aiservice

import (
	"time"

	"github.com/engineshed/engineshed/internal/fault"
	"github.com/engineshed/engineshed/internal/ids"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/resource"
)

// The refusals of this package.
var (
	ErrNotFound = fault.New(fault.NotFound, "NotFound.ServiceNotFound",
		"The service does not exist.", "Call ListServices for the ids of this account.")
	ErrGatewayNotFound = fault.New(fault.NotFound, "NotFound.GatewayNotFound",
		"The gateway does not exist.", "Call ListGateways for the ids of this account.")
	ErrModelServiceNotFound = fault.New(fault.NotFound, "NotFound.ModelServiceNotFound",
		"The model service does not exist.", "Call ListModelServices for the ids of a DB instance.")
	ErrNameDuplicate = fault.New(fault.Conflict, "Conflict.ServiceNameDuplicate",
		"The gateway has a service of that name already.", "Take another name.")
	ErrInUse = fault.New(fault.Conflict, "Conflict.ServiceInUse",
		"The service is used by a Model API.", "Change or delete that API first.")
)

// Kind is the kind of resource of this package.
var Kind = resource.Kind{Name: "Service", Table: "ai_service", Prefix: ids.AIService, Grouped: true, NotFound: notFound}

// Where a service comes from.
const (
	AI           = "AI"           // a provider of the table
	DNS          = "DNS"          // host names with ports
	VIP          = "VIP"          // addresses with ports
	ModelService = "ModelService" // a model service of the same account, followed live
)

var sourceTypes = []string{AI, DNS, VIP, ModelService}

// Service is an upstream service.
type Service struct {
	ID              string
	GatewayID       string
	Name            string
	SourceType      string
	ModelServiceID  string   // ModelService only
	Addresses       []string // DNS and VIP only: host:port
	AI              AIConfig // AI only
	ResourceGroupID string
	CreatedAt       time.Time
	UpdatedAt       time.Time
	Heard           bool            // a gateway process that forwards to it has been heard of lately
	Health          []GatewayHealth // what such processes have to say about it, when it is not well
}

// AIConfig is the part of a service of source type AI.
type AIConfig struct {
	Provider            string
	Protocols           []string // none: the provider's
	CompatibleProtocols []string // none: the provider's
	Address             string   // "": the provider's
	APIKeys             []string // write-only: a read shows sk-****last4
	DefaultModelName    string   // "": the provider's
	EnableHealthCheck   bool
}

// CreateSpec is what a caller asks Create for.
type CreateSpec struct {
	GatewayID       string
	SourceType      string
	ResourceGroupID string // "": the default one
	Services        []ServiceSpec
}

// ServiceSpec is one service of a CreateSpec.
type ServiceSpec struct {
	Name           string
	Addresses      []string
	ModelServiceID string
	AI             AIConfig
}

// UpdateSpec is what a caller asks Update for: what is nil stays as it is.
type UpdateSpec struct {
	Name           *string
	Addresses      []string
	ModelServiceID *string
	AI             *AIUpdate
}

// AIUpdate changes an AIConfig: what is nil stays as it is. A new provider brings its own address, protocols and
// default model unless they are given too.
type AIUpdate struct {
	Provider            *string
	Protocols           []string
	CompatibleProtocols []string
	Address             *string
	APIKeys             []string // all of them, in order; sk-****last4 stands for the key that a read shows so. Empty but not nil: none
	DefaultModelName    *string
	EnableHealthCheck   *bool
}

// Filter narrows a list of services; empty fields do not.
type Filter struct {
	GatewayID       string
	Name            string // a part of the name
	SourceTypes     []string
	ResourceGroupID string
	Page            instance.Page
}

func notFound(id string) error {
	return ErrNotFound.Withf("The service %.64q does not exist. Call ListServices for the ids of this account.", id)
}
