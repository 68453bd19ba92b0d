package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/engineshed/engineshed/internal/fault"
)

// What the edge refuses before any operation is asked.
var (
	errRegion = fault.New(fault.NotFound, "InvalidRegionId.NotFound",
		"The region is not served here.", "Send the region that the message names, or none.")
	errAction = fault.New(fault.NotFound, "InvalidAction.NotFound",
		"There is no such operation.", "Compare the name, the version, the method and the path with docs/compatibility.md.")
	errVersion = fault.New(fault.Invalid, "InvalidVersion",
		"There is no such version.", "Send one that docs/compatibility.md names for the product.")
)

// validate checks params against the operation's schema and completes them: defaults are filled in, the region is
// the endpoint's own, and an empty ClientToken is none.
func (o *operation) validate(params map[string]any, region string) error {
	if token, ok := params[o.tokenParam].(string); ok && token == "" {
		delete(params, o.tokenParam)
	}
	err := o.schema.VisitJSON(params, openapi3.VisitAsRequest(), openapi3.DefaultsSet(func() {}))
	if err != nil {
		return toFault(err)
	}
	return o.completeRegion(params, region)
}

const regionID = "RegionId"

func (o *operation) completeRegion(params map[string]any, region string) error {
	if _, declared := o.schema.Properties[regionID]; !declared {
		return nil
	}
	if asked, _ := params[regionID].(string); asked != "" && asked != region {
		return errRegion.Withf("The region %q is not served here: this endpoint serves %s.", asked, region)
	}
	params[regionID] = region
	return nil
}

// toFault names the parameter a schema refused, as the RPC dialect spells it: AINodeSpecInfos.1.AINodeNum.
func toFault(err error) error {
	var refused *openapi3.SchemaError
	if !errors.As(err, &refused) {
		return fmt.Errorf("validate the parameters: %w", err)
	}
	name := spell(refused.JSONPointer())
	switch refused.SchemaField {
	case "required":
		return fault.MissingParameter(name)
	case "properties":
		return unknownMember(name, refused)
	}
	why := refused.Reason
	if message, ok := refused.Schema.Extensions["x-message"].(string); ok && refused.SchemaField == "pattern" {
		why = message
	}
	refusal := fault.InvalidParameter(name, why+".")
	if code, ok := refused.Schema.Extensions["x-code"].(string); ok {
		refusal.Code = code + codeSuffixes[refused.SchemaField]
	}
	return refusal
}

// codeSuffixes end the code of a product that names the parameter in it, by what the schema refused.
var codeSuffixes = map[string]string{"minLength": ".Length", "maxLength": ".Length", "pattern": ".InvalidChars"}

func unknownMember(parent string, refused *openapi3.SchemaError) error {
	object, _ := refused.Value.(map[string]any)
	for _, member := range slices.Sorted(maps.Keys(object)) {
		if _, declared := refused.Schema.Properties[member]; !declared {
			return fault.InvalidParameter(strings.TrimPrefix(parent+"."+member, "."), "there is no such parameter.")
		}
	}
	return fault.InvalidParameter(parent, refused.Reason+".")
}

// spell joins a path; items are counted from 1.
func spell(path []string) string {
	spelled := make([]string, len(path))
	for i, step := range path {
		spelled[i] = step
		if n, err := strconv.Atoi(step); err == nil {
			spelled[i] = strconv.Itoa(n + 1)
		}
	}
	return strings.Join(spelled, ".")
}
