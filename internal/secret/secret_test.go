package secret_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/secret"
)

func TestASecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	s := secret.New("canary")
	holder := struct{ Key secret.Secret }{s}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", s, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", s, "holder", holder)
	encoded, err := json.Marshal(holder)
	require.NoError(t, err)
	printed := fmt.Sprint(s, holder) + log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		printed += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, holder)
	}
	require.NotContains(t, printed, "canary")
	require.NotContains(t, printed, fmt.Sprintf("%x", "canary"))
	require.Equal(t, "canary", s.Reveal())
}

func TestASealedSecretOpensUnderItsKeyForItsPurposeOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	require.NoError(t, secret.CreateKeyFile(path))
	box, err := secret.Load(path)
	require.NoError(t, err)
	sealed, err := box.Seal("a", secret.New("text"))
	require.NoError(t, err)
	require.NotContains(t, string(sealed), "text")

	require.NoError(t, secret.CreateKeyFile(path), "a file that is there is left alone")
	again, err := secret.Load(path)
	require.NoError(t, err)
	opened, err := again.Open("a", sealed)
	require.NoError(t, err)
	require.Equal(t, "text", opened.Reveal())
	_, err = again.Open("b", sealed)
	require.ErrorContains(t, err, "for this purpose")
	other, err := secret.NewBox()
	require.NoError(t, err)
	_, err = other.Open("a", sealed)
	require.Error(t, err)
}

func TestAKeyFileThatOthersMayReadIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	require.NoError(t, secret.CreateKeyFile(path))
	require.NoError(t, os.Chmod(path, 0o644))
	_, err := secret.Load(path)
	require.ErrorContains(t, err, "chmod 600")
}
