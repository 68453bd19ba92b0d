// Package hub reads the files of models from where they are published.
package hub

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// Kind is a kind of place where the files of models are.
type Kind string

// The kinds of sources.
const (
	HuggingFace Kind = "huggingface" // a repository of the Hugging Face hub, or of a mirror of it
	ModelScope  Kind = "modelscope"  // a repository of ModelScope
	URL         Kind = "url"         // a directory of a web server with a list of its files
	Directory   Kind = "directory"   // a directory of the host itself
)

// Source says where the files of one model are.
type Source struct {
	Kind     Kind   `json:"kind"`
	Name     string `json:"name"`               // owner/repository, the URL, or the directory's absolute path
	Revision string `json:"revision,omitempty"` // a commit, tag or branch of a repository; "" for the other kinds
}

// String is the source as people write it.
func (s Source) String() string {
	if s.Revision == "" {
		return s.Name
	}
	return s.Name + "@" + s.Revision
}

// DefaultRevision is the branch that a repository of this kind has when nobody names a revision; "" where there are none.
func (k Kind) DefaultRevision() string {
	switch k {
	case HuggingFace:
		return "main"
	case ModelScope:
		return "master"
	}
	return ""
}

// Pinned reports whether the revision can only ever mean the same files: it is a whole commit.
func (s Source) Pinned() bool { return commit.MatchString(s.Revision) }

var (
	commit     = regexp.MustCompile(`^[0-9a-f]{40}$`)
	repository = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$`)
	revision   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
)

// Check says why s cannot be a source.
func (s Source) Check() error {
	switch s.Kind {
	case HuggingFace, ModelScope:
		if !repository.MatchString(s.Name) || strings.Contains(s.Name, "..") {
			return fmt.Errorf("the repository %q must be OWNER/NAME of letters, digits, dots and dashes", s.Name)
		}
		if !revision.MatchString(s.Revision) || strings.Contains(s.Revision, "..") {
			return fmt.Errorf("the revision %q must be a commit, a tag or a branch", s.Revision)
		}
		return nil
	case URL:
		return s.checkURL()
	case Directory:
		if !filepath.IsAbs(s.Name) || filepath.Clean(s.Name) != s.Name || strings.ContainsAny(s.Name, " \t\n") {
			return fmt.Errorf("the directory %q must be an absolute path without spaces", s.Name)
		}
		return s.noRevision()
	}
	return fmt.Errorf("there is no kind of source %q; those there are: huggingface, modelscope, url, directory", s.Kind)
}

func (s Source) checkURL() error {
	address, err := url.Parse(s.Name)
	switch {
	case err != nil || address.Scheme != "https" && address.Scheme != "http" || address.Host == "":
		return fmt.Errorf("the address %q must begin with https:// or http://", s.Name)
	case address.User != nil:
		return errors.New("an address must not hold a password: give a token in the file of --model-sources")
	case strings.Contains(address.Path+"/", "/../") || strings.Contains(address.Path+"/", "/./") || strings.Contains(address.Path, "//"):
		return fmt.Errorf("the address %q must be in its plain spelling", s.Name)
	case address.RawQuery != "" || address.Fragment != "":
		return fmt.Errorf("the address %q must be that of a directory, without ? and #", s.Name)
	}
	return s.noRevision()
}

func (s Source) noRevision() error {
	if s.Revision != "" {
		return fmt.Errorf("a source of kind %s has no revision", s.Kind)
	}
	return nil
}
