package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/engineshed/engineshed/internal/catalog"
	"github.com/engineshed/engineshed/internal/modelfile"
	"github.com/engineshed/engineshed/internal/modelfile/hub"
)

// modelVerb is what the verbs about models on this host have in common. They ask no control plane.
type modelVerb struct {
	models  string
	catalog string
	output  string

	known *catalog.Catalog
}

func (p *program) model() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Models of the catalogue, and their files on this host",
		Long: `Shows the catalogue and works on the directory where the worker of this host keeps the files of models (its --models). Run it on
that host, as the worker's user. docs/models.md tells more.`,
	}
	cmd.AddCommand(p.modelList(), p.modelShow(), p.modelFetch(), p.modelExport(), p.modelImport())
	return cmd
}

// modelCommand is a verb about models on this host.
func (p *program) modelCommand(cmd *cobra.Command, run func(cmd *cobra.Command, v *modelVerb, args []string) error) *cobra.Command {
	v := &modelVerb{}
	flags := cmd.Flags()
	flags.StringVar(&v.models, "models", "", "directory where the worker keeps the files of models")
	flags.StringVar(&v.catalog, "catalog", "", "directory of your own models' files")
	flags.StringVarP(&v.output, "output", "o", "table", "table for people, json for programs")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if v.output != "table" && v.output != "json" {
			return fmt.Errorf("--output takes table or json, not %q", v.output)
		}
		if v.known, err = catalog.Open(v.catalog); err != nil {
			return err
		}
		return run(cmd, v, args)
	}
	return cmd
}

// store opens the directory of models.
func (v *modelVerb) store(hubs *hub.Hubs) (*modelfile.Store, error) {
	if v.models == "" {
		return nil, errors.New("say with --models where the worker of this host keeps the files of models")
	}
	dir, err := filepath.Abs(v.models)
	if err != nil {
		return nil, err
	}
	return modelfile.Open(modelfile.Config{Dir: dir, Hubs: hubs, Log: slog.New(slog.DiscardHandler)})
}

func (p *program) modelList() *cobra.Command {
	return p.modelCommand(&cobra.Command{
		Use: "list", Short: "List the models of the catalogue, and what is on this host", Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, v *modelVerb, _ []string) error {
		stored, err := v.stored()
		if err != nil {
			return err
		}
		return v.printModels(cmd.OutOrStdout(), stored)
	})
}

func (p *program) modelShow() *cobra.Command {
	return p.modelCommand(&cobra.Command{
		Use: "show MODEL", Short: "Show a model of the catalogue: its source, what it needs, what ModelParams may hold", Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, v *modelVerb, args []string) error {
		m, err := v.known.Find(args[0])
		if err != nil {
			return err
		}
		stored, err := v.stored()
		if err != nil {
			return err
		}
		view := viewOf(m)
		view.Files = filesOf(m.Source, stored)
		for _, a := range m.Arguments {
			view.Arguments = append(view.Arguments, argumentView{a.Name, string(a.Type), a.Limit(), a.Default, a.Required})
		}
		if v.output == "json" {
			return printJSON(cmd.OutOrStdout(), view)
		}
		return view.print(cmd.OutOrStdout(), m.Arguments)
	})
}

func (p *program) modelFetch() *cobra.Command {
	var sources string
	cmd := p.modelCommand(&cobra.Command{
		Use: "fetch MODEL", Short: "Fetch the files of a model of the catalogue, as a worker would", Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, v *modelVerb, args []string) error {
		m, err := v.known.Find(args[0])
		if err != nil {
			return err
		}
		reached, err := hub.Load(sources, p.getenv)
		if err != nil {
			return err
		}
		hubs, err := hub.New(reached)
		if err != nil {
			return err
		}
		store, err := v.store(hubs)
		if err != nil {
			return err
		}
		defer store.Close()
		return await(cmd.Context(), store, m, newProgress(cmd.OutOrStdout()))
	})
	cmd.Flags().StringVar(&sources, "model-sources", "", "file that says how hubs are reached: endpoints, proxies, token files")
	return cmd
}

// await shows how a download goes until it has ended.
func await(ctx context.Context, store *modelfile.Store, m catalog.Model, shown *progress) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	defer shown.end()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	store.Fetch(m.Source)
	for {
		supply := store.Look(m.Source)
		switch {
		case supply.Err != nil:
			return supply.Err
		case supply.Dir != "":
			shown.show(m.Name, "is in "+supply.Dir, "")
			return nil
		}
		shown.show(m.Name, supply.Note, "")
		select {
		case <-ctx.Done():
			return errors.New("stopped; what has arrived stays for the next time")
		case <-ticker.C:
		}
	}
}

func (p *program) modelExport() *cobra.Command {
	var from string
	cmd := p.modelCommand(&cobra.Command{
		Use: "export MODEL FILE", Short: "Write the files of a model with their checksums into a tar archive", Args: cobra.ExactArgs(2),
		Long: `Writes the files of a model of the catalogue, which are on this host, into a tar archive for engineshed model import. FILE is - for
standard output. With --from they are those of any directory, and are imported as the model's.`,
	}, func(cmd *cobra.Command, v *modelVerb, args []string) error {
		m, err := v.known.Find(args[0])
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		dir, manifest, err := v.exported(ctx, m, from)
		if err != nil {
			return err
		}
		if args[1] == "-" {
			return modelfile.Export(ctx, manifest, dir, cmd.OutOrStdout())
		}
		if err := writeArchive(ctx, manifest, dir, args[1]); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %d files of %s, %s\n", args[1], len(manifest.Files), m.Name, modelfile.Size(manifest.Bytes()))
		return nil
	})
	cmd.Flags().StringVar(&from, "from", "", "directory with the model's files, in place of those on this host")
	return cmd
}

// exported are the directory and the manifest of what is exported.
func (v *modelVerb) exported(ctx context.Context, m catalog.Model, from string) (dir string, manifest modelfile.Manifest, err error) {
	if from != "" {
		manifest, err = modelfile.ManifestOf(ctx, from, m.Source)
		return from, manifest, err
	}
	store, err := v.store(nil)
	if err != nil {
		return "", manifest, err
	}
	if !store.Has(m.Source) {
		return "", manifest, fmt.Errorf("%s is not on this host, or not whole: engineshed model fetch %s brings it, --from takes another directory", m.Source, m.Name)
	}
	manifest, err = store.Manifest(m.Source)
	return store.Dir(m.Source), manifest, err
}

// writeArchive writes the archive completely or not at all.
func writeArchive(ctx context.Context, m modelfile.Manifest, dir, path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	err = modelfile.Export(ctx, m, dir, file)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func (p *program) modelImport() *cobra.Command {
	return p.modelCommand(&cobra.Command{
		Use: "import FILE", Short: "Put a model from an archive of model export on this host", Args: cobra.ExactArgs(1),
		Long: `Reads an archive that engineshed model export wrote (- for standard input), checks every file, and puts the model where the worker
of this host keeps models. A worker that waits for it starts its engines then.`,
	}, func(cmd *cobra.Command, v *modelVerb, args []string) error {
		store, err := v.store(nil)
		if err != nil {
			return err
		}
		archive := cmd.InOrStdin()
		if args[0] != "-" {
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			archive = file
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		told := false
		manifest, err := store.Import(ctx, archive, func() {
			if !told {
				fmt.Fprintln(cmd.OutOrStdout(), "Another process of this host has the model's files in hand; waiting for it.")
			}
			told = true
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %d files, %s, in %s\n", manifest.Source, len(manifest.Files), modelfile.Size(manifest.Bytes()), store.Dir(manifest.Source))
		return nil
	})
}

func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}
