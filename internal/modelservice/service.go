// Package modelservice owns model services and their replicas: states, rules, SQL and jobs.
package modelservice

import (
	"time"

	"github.com/engineshed/engineshed/internal/secret"
)

// Status is the state of a model service, in the words the API answers.
type Status string

// The states of a model service.
const (
	Deploying Status = "deploying" // not every replica has answered yet
	Active    Status = "active"    // every replica answers
	Degraded  Status = "degraded"  // some replicas answer, or their state is unknown
	Failed    Status = "failed"    // no replica answers and they keep ending
	Deleting  Status = "deleting"
)

// Spec is what a caller asks Create for. Create checks every rule; nothing here needs to be valid.
type Spec struct {
	AccountID       string
	RegionID        string
	DBInstanceID    string
	ModelName       string
	Description     string
	AINodes         []string
	Replicas        *int           // nil: 1
	ModelParams     map[string]any // engine arguments by name, without dashes
	InferenceEngine string         // "": vllm
	ResourceGroupID string         // "": the instance's
	SecurityIPList  *string        // nil: the instance's array "default"
	Public          bool
}

// Service is a model service as it is now.
type Service struct {
	ID              string
	AccountID       string
	DBInstanceID    string
	RegionID        string
	ResourceGroupID string
	ModelName       string
	Description     string
	AINodes         []string // every bound node, by name
	ModelParams     map[string]any
	ReplicaCount    int       // how many replicas it should have
	Replicas        []Replica // those it has, also the ones that come and go
	Status          Status
	StatusReason    string // one sentence for a person; "" when there is nothing to say
	APIKey          secret.Secret
	SecurityIPList  string // comma-separated; the array that decides
	PrivateURL      string
	PublicURL       string // "" unless the service has a public connection
	CreatedAt       time.Time
}

// Replica is one engine of a service.
type Replica struct {
	ID       string
	Ordinal  int
	NodeName string
	Host     string
	Status   string // pending, starting, active, silent, failed, draining, removing, or unknown
	Reason   string
	UpToDate bool // it has the service's parameters, and its node stays
}
