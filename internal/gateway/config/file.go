package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/engineshed/engineshed/internal/secret"
)

// filePurpose is what the snapshot file is sealed for.
const filePurpose = "snapshot-file"

// file is the last configuration on disk, sealed under the snapshot key: nobody without the key reads or forges it.
type file struct {
	path string
	box  *secret.Box
}

type contents struct {
	Revision int64  `json:"revision"`
	Items    []Item `json:"items"`
}

// encode encodes one item after the other: encoding/json keeps its buffers, and one for all items would hold as much memory as
// the configuration does.
func (c contents) encode() ([]byte, error) {
	text := fmt.Appendf(nil, `{"revision":%d,"items":[`, c.Revision)
	for i, item := range c.Items {
		one, err := json.Marshal(item)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, one...)
	}
	return append(text, "]}"...), nil
}

func (f file) save(cfg *Config) error {
	text, err := contents{cfg.Revision, cfg.items()}.encode()
	if err != nil {
		return err
	}
	sealed, err := f.box.Seal(filePurpose, secret.New(string(text)))
	if err != nil {
		return err
	}
	return replaceFile(f.path, sealed)
}

// load returns the configuration of the file as a change; fs.ErrNotExist when there is none.
func (f file) load() (change, error) {
	sealed, err := os.ReadFile(f.path)
	if err != nil {
		return change{}, err
	}
	text, err := f.box.Open(filePurpose, sealed)
	if err != nil {
		return change{}, fmt.Errorf("the snapshot file %s is damaged or was written under another snapshot key: "+
			"check --snapshot-key-file, or delete the file and let the gateway fetch its configuration anew", f.path)
	}
	var c contents
	if err := json.Unmarshal([]byte(text.Reveal()), &c); err != nil {
		return change{}, fmt.Errorf("the snapshot file %s is not understood: delete it: %w", f.path, err)
	}
	return change{revision: c.Revision, all: true, items: c.Items}, nil
}

// replaceFile writes data so that a crash leaves the old file or the new one.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".snapshot-*") // CreateTemp's mode is 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
