package modelservice

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/modelfile"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
	"github.com/engineshed/engineshed/internal/node/vllm"
)

// supply is how it stands with the files of a replica's model on this host. The zero supply is that nothing is missing: they
// are there, or the engine fetches them itself.
type supply struct {
	missing  bool
	fetching bool
	note     string // how far they are
	problem  string // why they do not come
}

// supplyOf looks for the files of the model. It asks nobody but this host.
func (h *Host) supplyOf(modelName string) supply {
	model, err := h.Services.catalog.Find(modelName)
	if err != nil || h.Files == nil && model.Source.Kind != hub.Directory {
		return supply{} // a model that is not in the catalogue is refused when it is started
	}
	return seen(h.look(model.Source))
}

func (h *Host) look(source hub.Source) modelfile.Supply {
	if h.Files == nil {
		return modelfile.LookAtDirectory(source)
	}
	return h.Files.Look(source)
}

func seen(s modelfile.Supply) supply {
	switch {
	case s.Dir != "":
		return supply{}
	case s.Err != nil:
		return supply{missing: true, problem: strings.ReplaceAll(s.Err.Error(), "\n", "; ")}
	}
	return supply{missing: true, fetching: s.Fetching, note: s.Note}
}

// fetch has the files of the replica's model fetched beside this step, and writes how far they are. The row takes a
// generation that no engine has: the one that ran before is not the one that will.
func (s *Stepper) fetch(ctx context.Context, r replicaState) error {
	model, err := s.Services.catalog.Find(r.modelName)
	if err != nil {
		return err
	}
	if s.Files != nil {
		s.Files.Fetch(model.Source)
	}
	files := seen(s.look(model.Source))
	if files.problem != "" {
		_, err := s.fail(ctx, r, files.problem, "")
		return err
	}
	s.Log.DebugContext(ctx, "model is on its way", slog.String("replica", r.ID), slog.String("note", files.note))
	return s.write(ctx, r, change{status: starting, reason: files.note, generation: r.Generation})
}

// engineSource is what the engine is told to load, and what it is told about where that is.
func (s *Stepper) engineSource(model catalog.Model, serve *vllm.Serve, variables map[string]string) error {
	source := model.Source
	switch {
	case source.Kind == hub.Directory:
		serve.Model = source.Name
	case s.Files != nil:
		serve.Model = s.Files.Dir(source)
	case source.Kind == hub.URL:
		return errors.New("the model comes from a web server, which engines cannot ask: start the worker of this host with --models")
	default:
		serve.Model = source.Name
		if source.Revision != source.Kind.DefaultRevision() {
			serve.Revision = source.Revision
		}
		if source.Kind == hub.ModelScope {
			variables["VLLM_USE_MODELSCOPE"] = "True"
		}
		return nil
	}
	variables["HF_HUB_OFFLINE"] = "1" // everything is there: whoever asks a hub all the same would wait for it
	return nil
}
