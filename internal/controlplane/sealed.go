package controlplane

import (
	"slices"

	"github.com/engineshed/engineshed/internal/aiservice"
	"github.com/engineshed/engineshed/internal/audit"
	"github.com/engineshed/engineshed/internal/consumer"
	"github.com/engineshed/engineshed/internal/iam"
	"github.com/engineshed/engineshed/internal/modelservice"
	"github.com/engineshed/engineshed/internal/operator"
)

// Sealed is where the database holds what is sealed under the master key.
var Sealed = slices.Concat(iam.Sealed, modelservice.Sealed, aiservice.Sealed, consumer.Sealed, operator.Sealed, audit.Sealed)
