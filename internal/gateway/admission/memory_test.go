package admission_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/gateway/admission"
)

func TestBodyIsReadWholeAndCountedUntilItIsReleased(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := admission.NewMemory(1 << 20)
		text := bytes.Repeat([]byte("engine"), rapid.IntRange(0, 50_000).Draw(t, "size"))
		announced := int64(-1)
		if rapid.Bool().Draw(t, "announced") {
			announced = int64(len(text))
		}
		from := io.Reader(bytes.NewReader(text))
		if rapid.Bool().Draw(t, "in pieces") {
			from = iotest.HalfReader(iotest.DataErrReader(from))
		}
		b, err := m.Read(from, announced)
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, b.Bytes))
		require.GreaterOrEqual(t, m.Held(), int64(len(text)))
		if announced > 0 {
			require.Equal(t, announced, m.Held(), "not a byte more than was announced")
		}
		b.Lend()
		b.Release()
		require.True(t, bytes.Equal(text, b.Bytes))
		require.GreaterOrEqual(t, m.Held(), int64(len(text)))
		b.Release()
		require.Zero(t, m.Held())
	})
	(*admission.Body)(nil).Release()
}

func TestBodiesDoNotShareMemory(t *testing.T) {
	t.Parallel()
	m := new(admission.Memory)
	rapid.Check(t, func(t *rapid.T) {
		type one struct {
			*admission.Body
			text []byte
		}
		var held []one
		for i := range rapid.IntRange(1, 30).Draw(t, "bodies") {
			text := bytes.Repeat([]byte{byte(i)}, rapid.IntRange(0, 300_000).Draw(t, "size"))
			b, err := m.Read(bytes.NewReader(text), int64(len(text)))
			require.NoError(t, err)
			held = append(held, one{b, text})
			if rapid.Bool().Draw(t, "released") {
				last := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				require.True(t, bytes.Equal(held[last].text, held[last].Bytes))
				held[last].Release()
				held = append(held[:last], held[last+1:]...)
			}
		}
		for _, b := range held {
			require.True(t, bytes.Equal(b.text, b.Bytes))
			b.Release()
		}
		require.Zero(t, m.Held())
	})
}

// BenchmarkRead takes in bodies of announced lengths.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size>>10, "KB"), func(b *testing.B) {
			m, text := new(admission.Memory), make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				body, err := m.Read(bytes.NewReader(text), int64(size))
				require.NoError(b, err)
				body.Release()
			}
		})
	}
}

func TestBodyThatCannotBeHeldIsNotRead(t *testing.T) {
	t.Parallel()
	m := admission.NewMemory(100 << 10)
	_, err := m.Read(iotest.ErrReader(errors.New("it was read")), 101<<10)
	require.ErrorIs(t, err, admission.ErrMemory)
	held, err := m.Read(strings.NewReader(strings.Repeat("a", 90<<10)), 90<<10)
	require.NoError(t, err)
	_, err = m.Read(iotest.ErrReader(errors.New("it was read")), 11<<10)
	require.ErrorIs(t, err, admission.ErrMemory)
	require.EqualValues(t, 2, m.Refused())
	held.Release()
	_, err = m.Read(strings.NewReader(strings.Repeat("a", 11<<10)), 11<<10)
	require.NoError(t, err)
}

func TestBodyOfUnknownLengthIsGivenUpWhenNoMoreCanBeHeld(t *testing.T) {
	t.Parallel()
	m := admission.NewMemory(100 << 10)
	_, err := m.Read(strings.NewReader(strings.Repeat("a", 1<<20)), -1)
	require.ErrorIs(t, err, admission.ErrMemory)
	require.Zero(t, m.Held())
}

func TestWhoAnnouncesMuchAndSendsLittleTakesLittle(t *testing.T) {
	t.Parallel()
	m := admission.NewMemory(1 << 20)
	from, client := io.Pipe()
	read := make(chan error)
	go func() {
		_, err := m.Read(from, 1<<20)
		read <- err
	}()
	_, err := client.Write([]byte("{"))
	require.NoError(t, err)
	require.Equal(t, int64(64<<10), m.Held())
	require.NoError(t, client.Close())
	require.ErrorIs(t, <-read, io.ErrUnexpectedEOF)
	require.Zero(t, m.Held())
}

func TestErrorOfTheClientGivesTheMemoryBack(t *testing.T) {
	t.Parallel()
	m := new(admission.Memory)
	broken := errors.New("broken")
	_, err := m.Read(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(broken)), -1)
	require.ErrorIs(t, err, broken)
	require.Zero(t, m.Held())
}
