package secret_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/secret"
)

// keyFile is a fresh one and a Box that follows it.
func keyFile(t *testing.T) (string, *secret.Box) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master.key")
	require.NoError(t, secret.CreateKeyFile(path))
	box, err := secret.Load(path)
	require.NoError(t, err)
	return path, box
}

func seal(t *testing.T, box *secret.Box) []byte {
	t.Helper()
	sealed, err := box.Seal("p", secret.New("text"))
	require.NoError(t, err)
	return sealed
}

func step(t *testing.T, path string, do func(string) (bool, error)) {
	t.Helper()
	changed, err := do(path)
	require.NoError(t, err)
	require.True(t, changed)
}

func TestABoxFollowsItsKeyFileThroughARotation(t *testing.T) {
	t.Parallel()
	path, running := keyFile(t)
	copied, err := os.ReadFile(path)
	require.NoError(t, err)
	old := seal(t, running)
	step(t, path, secret.AddKey)
	added, err := secret.AddKey(path)
	require.NoError(t, err)
	require.False(t, added, "a rotation that was interrupted adds no second key")
	_, err = secret.DropOtherKeys(path)
	require.ErrorIs(t, err, secret.ErrNotInUse)
	step(t, path, secret.UseNewestKey)
	another, err := secret.Load(path)
	require.NoError(t, err)
	fresh := seal(t, another)
	require.NotEqual(t, old[:5], fresh[:5])
	require.Equal(t, another.Prefix(), fresh[:5])
	for _, box := range []*secret.Box{running, another} {
		for _, sealed := range [][]byte{old, fresh} {
			opened, err := box.Open("p", sealed)
			require.NoError(t, err)
			require.Equal(t, "text", opened.Reveal())
		}
	}
	require.Equal(t, fresh[:5], seal(t, running)[:5], "what it met it seals with")

	step(t, path, secret.DropOtherKeys)
	last, err := secret.Load(path)
	require.NoError(t, err)
	_, err = last.Open("p", old)
	require.Error(t, err)
	oldPath := filepath.Join(t.TempDir(), "old.key")
	require.NoError(t, os.WriteFile(oldPath, copied, 0o600))
	withOld, err := secret.Load(oldPath)
	require.NoError(t, err)
	_, err = withOld.Open("p", fresh)
	require.Error(t, err, "the old file opens nothing that was sealed since")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestABoxSealsWithTheNewKeyWithinASecondOrTwo(t *testing.T) {
	t.Parallel()
	path, running := keyFile(t)
	before := seal(t, running)
	step(t, path, secret.AddKey)
	step(t, path, secret.UseNewestKey)
	require.Eventually(t, func() bool { return string(seal(t, running)[:5]) != string(before[:5]) }, 10*time.Second, 10*time.Millisecond)
}

func TestABoxKeepsItsKeysWhileItsFileIsBroken(t *testing.T) {
	t.Parallel()
	path, running := keyFile(t)
	sealed := seal(t, running)
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err := running.Open("p", []byte("what no key opens"))
	require.Error(t, err)
	opened, err := running.Open("p", sealed)
	require.NoError(t, err)
	require.Equal(t, "text", opened.Reveal())
}

func TestALinkedKeyFileStaysLinked(t *testing.T) {
	t.Parallel()
	path, _ := keyFile(t)
	link := filepath.Join(t.TempDir(), "link.key")
	require.NoError(t, os.Symlink(path, link))
	step(t, link, secret.AddKey)
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink)
	changed, err := secret.UseNewestKey(path)
	require.NoError(t, err)
	require.True(t, changed)
}
