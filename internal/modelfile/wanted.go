package modelfile

import (
	"path"
	"slices"
	"strings"

	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

// Engines load safetensors where there are any, and never what other runtimes are given.
var (
	foreignFolders    = []string{"onnx", "openvino", "original", "coreml", "tensorboard", "runs"}
	foreignExtensions = []string{".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".mlmodel", ".mlpackage", ".gguf", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".mp4"}
	olderWeights      = []string{".bin", ".pt", ".pth"}
)

// wanted leaves out what no engine reads: files of other runtimes, pictures, hidden files, and weights in an older format
// beside safetensors of the same folder.
func wanted(files []hub.File) []hub.File {
	safe := map[string]bool{}
	for _, f := range files {
		if path.Ext(f.Path) == ".safetensors" {
			safe[path.Dir(f.Path)] = true
		}
	}
	var kept []hub.File
	for _, f := range files {
		extension := strings.ToLower(path.Ext(f.Path))
		top, _, inFolder := strings.Cut(f.Path, "/")
		switch {
		case f.Path == hub.ManifestName, slices.Contains(foreignExtensions, extension):
		case strings.HasPrefix(f.Path, "."), strings.Contains(f.Path, "/."):
		case inFolder && slices.Contains(foreignFolders, top):
		case slices.Contains(olderWeights, extension) && safe[path.Dir(f.Path)]:
		default:
			kept = append(kept, f)
		}
	}
	return kept
}
