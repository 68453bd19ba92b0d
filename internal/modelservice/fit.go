package modelservice

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/instance"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

// fits says why a replica of the model cannot run on one of the nodes. What is not known refuses nothing: a node without
// accelerators, an accelerator or a model whose memory nobody says.
func fits(m catalog.Model, params map[string]any, rooms []instance.Room) error {
	for _, room := range rooms {
		if m.TooOld(room.Engine) {
			return instance.ErrInsufficientCapacity.Withf(
				"%s needs vLLM %s or later and the host %s of the AI node %s has %s: choose an AI node of another host, or update vLLM there and restart its worker.",
				m.Name, m.EngineVersion, room.Host, room.Node, room.Engine)
		}
		if room.Accelerators == 0 {
			continue
		}
		if m.Accelerators != nil && !slices.Contains(m.Accelerators, room.Accelerators) {
			return instance.ErrInsufficientCapacity.Withf(
				"A replica of %s can be split over %s accelerators, the AI node %s (%s) has %d: choose %s.",
				m.Name, among(m.Accelerators), room.Node, room.Spec, room.Accelerators, larger(room, 0, m.Accelerators))
		}
		needs := m.MemoryFor(params, room.Accelerators)
		has := int64(float64(room.Bytes()) * vllm.Usable)
		if room.Bytes() == 0 || needs <= has {
			continue
		}
		needed := int64(float64(needs) / vllm.Usable)
		return instance.ErrInsufficientCapacity.Withf(
			"%s needs %s of GPU memory and the AI node %s (%s) has %s for it (%d × %s GiB, of which it gets %s): choose %s, or a smaller model.",
			m.Name, gibibytes(needs), room.Node, room.Spec, gibibytes(has), room.Accelerators,
			strconv.FormatFloat(float64(room.MemoryMiB)/1024, 'f', 1, 64), percent(room.Fraction*vllm.Usable), larger(room, needed, m.Accelerators))
	}
	return nil
}

func larger(room instance.Room, bytes int64, counts []int) string {
	names := room.Larger(bytes, counts)
	if len(names) == 0 {
		return "accelerators with more memory, since no node specification has as much here"
	}
	return strings.Join(names, " or ")
}

// among lists numbers as people say them: 1, 2 or 4.
func among(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func gibibytes(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

func percent(share float64) string { return fmt.Sprintf("%.0f %%", share*100) }
