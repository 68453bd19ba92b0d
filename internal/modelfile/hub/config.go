package hub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/engineshed/engineshed/internal/secret"
	"github.com/engineshed/engineshed/internal/strictyaml"
)

// The shape of the file of --model-sources, as it is written.
type (
	configYAML struct {
		HuggingFace siteYAML            `yaml:"huggingface"`
		ModelScope  siteYAML            `yaml:"modelscope"`
		URL         map[string]siteYAML `yaml:"url"`
	}
	siteYAML struct {
		Endpoint  string `yaml:"endpoint"`
		Proxy     string `yaml:"proxy"`
		TokenFile string `yaml:"tokenFile"`
	}
)

// Load reads how hubs are reached from a file; "" for none. HF_ENDPOINT in the environment stands in for an endpoint that the
// file does not name, as it does for engines. All complaints come together.
func Load(path string, getenv func(string) string) (Config, error) {
	var file configYAML
	if path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return Config{}, err
		}
		if err := strictyaml.Decode(path, content, &file); err != nil && !errors.Is(err, strictyaml.ErrEmpty) {
			return Config{}, err
		}
	}
	var complaints []error
	site := func(name string, s siteYAML) Site {
		token, err := readToken(filepath.Dir(path), s.TokenFile)
		if err != nil {
			complaints = append(complaints, fmt.Errorf("%s: %s.tokenFile: %w", path, name, err))
		}
		return Site{Endpoint: s.Endpoint, Proxy: s.Proxy, Token: token}
	}
	c := Config{HuggingFace: site("huggingface", file.HuggingFace), ModelScope: site("modelscope", file.ModelScope), Mirrors: map[string]Site{}}
	for host, s := range file.URL {
		if s.Endpoint != "" {
			complaints = append(complaints, fmt.Errorf("%s: url.%s has no endpoint: the sources of models name their addresses", path, host))
		}
		c.Mirrors[host] = site("url."+host, s)
	}
	if c.HuggingFace.Endpoint == "" {
		c.HuggingFace.Endpoint = getenv("HF_ENDPOINT")
	}
	return c, errors.Join(complaints...)
}

// readToken reads a token that nobody else may read. name is relative to dir; "" is none.
func readToken(dir, name string) (secret.Secret, error) {
	if name == "" {
		return secret.Secret{}, nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	info, err := os.Stat(name)
	if err != nil {
		return secret.Secret{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.Secret{}, fmt.Errorf("%s may be read by others (mode %#o): run chmod 600 %s", name, info.Mode().Perm(), name)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return secret.Secret{}, err
	}
	token := strings.TrimSpace(string(content))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' ' }) {
		return secret.Secret{}, fmt.Errorf("%s does not hold a token", name)
	}
	return secret.New(token), nil
}
