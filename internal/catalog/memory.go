package catalog

import "strconv"

// shares are what is left of a model's memory when an engine argument makes its numbers smaller or larger than the two bytes
// that the catalogue counts.
var shares = map[string]map[string]float64{
	"quantization": {"fp8": 0.5, "bitsandbytes": 0.25},
	"dtype":        {"float": 2, "float32": 2},
}

// MemoryFor is the accelerator memory in bytes that a replica with these valid parameters needs in all, split over so many
// accelerators; 0: not known. Weights that are quantized where they are published are in Memory already.
func (m Model) MemoryFor(params map[string]any, accelerators int) int64 {
	needs := float64(m.Memory)
	for argument, values := range shares {
		if share, ok := values[m.Arguments.Value(argument, params)]; ok {
			needs *= share
		}
	}
	offloaded, _ := strconv.ParseFloat(m.Arguments.Value("cpu-offload-gb", params), 64) // "": 0
	return int64(max(0, needs-offloaded*gib*float64(accelerators)))
}
