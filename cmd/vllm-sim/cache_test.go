package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func caching(blocks int) func(*options) {
	return func(o *options) { o.prefixCaching, o.blockSize, o.blocks, o.promptDetails = true, 16, blocks, true }
}

func (u *usageCounts) cached() int {
	if u.Details == nil {
		return 0
	}
	return u.Details.CachedTokens
}

func TestTurnsOfAConversationReuseWhatWasComputed(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, caching(1000))
	chat := []map[string]any{{"role": "system", "content": strings.Repeat("Be brief. ", 50)}, {"role": "user", "content": "First question?"}}
	before := 0
	for turn := range 4 {
		_, r := ask(t, server.URL+"/v1/chat/completions", map[string]any{"messages": chat})
		require.LessOrEqual(t, before-16, r.Usage.cached(), "turn %d", turn)
		require.Less(t, r.Usage.cached(), r.Usage.PromptTokens)
		require.Zero(t, r.Usage.cached()%16, "whole blocks are kept")
		before = r.Usage.TotalTokens // the answer is part of what the next turn repeats
		chat = append(chat, map[string]any{"role": "assistant", "content": r.Choices[0].Message.Content},
			map[string]any{"role": "user", "content": fmt.Sprint("Question ", turn)})
	}
	_, _, _, usage := askStreamed(t, server.URL+"/v1/chat/completions", map[string]any{"messages": chat[:2]})
	require.Equal(t, (usage.PromptTokens-1)/16*16, usage.cached(), "of a repeated prompt all but the last token")

	page, err := http.Get(server.URL + "/metrics")
	require.NoError(t, err)
	defer page.Body.Close()
	text, err := io.ReadAll(page.Body)
	require.NoError(t, err)
	require.Regexp(t, `vllm:prefix_cache_queries_total\{[^}]*\} [1-9]`, string(text))
	require.Regexp(t, `vllm:prefix_cache_hits_total\{[^}]*\} [1-9]`, string(text))
	require.Regexp(t, `vllm:kv_cache_usage_perc\{[^}]*\} 0\.0[1-9]`, string(text))
}

func TestWithoutPrefixCachingNothingIsReused(t *testing.T) {
	t.Parallel()
	server := newServer(t, knobs{}, func(o *options) { o.promptDetails = true })
	for range 2 {
		_, r := ask(t, server.URL+"/v1/completions", map[string]any{"prompt": strings.Repeat("word ", 200)})
		require.Zero(t, r.Usage.cached())
	}
}

func TestPromptsAreComputedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := options{names: []string{"m"}, maxModelLen: 10_000, maxNumSeqs: 4}
		caching(1000)(&o)
		e := newEngine(knobs{prefillLatency: 10 * time.Second, timeToFirstToken: time.Second}, o)
		first := func(prompt string) time.Duration {
			began, took := time.Now(), time.Duration(0)
			g := generation{prompt: tokens(prompt), promptTokens: 2000, length: 1, answer: []string{"a"}}
			g.promptTokens = len(g.prompt)
			require.NoError(t, e.generate(context.Background(), &g, func(int, string) error {
				took = time.Since(began)
				return nil
			}))
			return took
		}
		a, b := strings.Repeat("aaaa ", 999)+"a", strings.Repeat("bbbb ", 999)+"b"
		require.Len(t, tokens(a), 1000)
		took := make(chan time.Duration)
		go func() { took <- first(a) }()
		synctest.Wait()
		require.Equal(t, 21*time.Second, first(b), "it waits until the processor is free")
		require.Equal(t, 11*time.Second, <-took)
		require.Equal(t, time.Second+80*time.Millisecond, first(b), "992 of its tokens are cached")
	})
}

func TestWhatWasUsedLongestAgoMakesRoom(t *testing.T) {
	t.Parallel()
	c := newPrefixCache(2, 4)
	first, second, third := []string{"a", "b", "c", "d", "+"}, []string{"a", "b", "e", "f", "+"}, []string{"g", "h", "i", "j", "+"}
	c.keep(first)
	c.keep(second)
	require.Equal(t, []int{4, 4}, []int{c.cached(first), c.cached(second)})
	c.keep(third)
	require.Equal(t, []int{2, 4, 4}, []int{c.cached(first), c.cached(second), c.cached(third)}, "what they share is kept, as the newest of them")
	require.InDelta(t, 1, c.usage(), 0)
}

// With room for all, what is cached of a prompt is what it shares with any before it, in whole blocks.
func TestCachedIsTheLongestSharedBeginning(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newPrefixCache(rapid.IntRange(1, 4).Draw(t, "block size"), 10_000)
		var before [][]string
		for range rapid.IntRange(1, 10).Draw(t, "prompts") {
			prompt := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 1, 20).Draw(t, "prompt")
			longest := 0
			for _, other := range before {
				n := 0
				for n < min(len(prompt), len(other)) && prompt[n] == other[n] {
					n++
				}
				longest = max(longest, min(n/c.blockSize, (len(prompt)-1)/c.blockSize)*c.blockSize)
			}
			require.Equal(t, longest, c.cached(prompt))
			c.keep(prompt)
			before = append(before, slices.Clone(prompt))
		}
	})
}
