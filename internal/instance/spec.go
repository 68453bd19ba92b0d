package instance

import (
	"strings"

	"github.com/engineshed/engineshed/internal/fault"
)

// size is what an AI node of a NodeSpec takes from a host.
type size struct {
	accelerators int
	fraction     float64
}

// sizes gives the NodeSpec names of the official documents a meaning on hardware of one's own. The number after the
// dot names a hardware generation there; here every accelerator of a host is of one kind, so it only has to be known.
var sizes = map[string]size{
	"ADB.AIStandard": {1, 0.25},
	"ADB.AIMedium":   {1, 0.5},
	"ADB.AILarge":    {1, 1},
	"ADB.AIXLarge":   {2, 1},
	"ADB.AI2XLarge":  {4, 1},
}

// DefaultNodeSpec is one whole accelerator.
const DefaultNodeSpec = "ADB.AILarge.1"

const generations = "1234568"

// sizeOf returns what a node takes of the kind that the parameter names.
func sizeOf(parameter, spec string) (size, error) {
	name, generation, _ := strings.Cut(strings.TrimPrefix(spec, "ADB."), ".")
	s, known := sizes["ADB."+name]
	if !known || len(generation) != 1 || !strings.Contains(generations, generation) {
		return size{}, fault.InvalidParameter(parameter, spec+
			" is not a node specification; use ADB.AIStandard.N (a quarter of an accelerator), ADB.AIMedium.N (half), "+
			"ADB.AILarge.N (one), ADB.AIXLarge.N (two) or ADB.AI2XLarge.N (four) with N one of 1, 2, 3, 4, 5, 6, 8.")
	}
	return s, nil
}
