package upstream

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func threeKeys() (keys *Keys, a, b, c *Key) {
	keys = NewKeys([]string{"a", "b", "c"}, nil)
	return keys, keys.keys[0], keys.keys[1], keys.keys[2]
}

// used is how often each key's turn came.
func used(keys *Keys, times int) map[string]int {
	got := map[string]int{}
	for range times {
		got[keys.Next().Header()[0]]++
	}
	return got
}

func TestKeysTakeTurns(t *testing.T) {
	t.Parallel()
	keys, _, b, _ := threeKeys()
	require.Equal(t, map[string]int{"a": 10, "b": 10, "c": 10}, used(keys, 30))
	require.True(t, b.Answered(401, nil))
	require.Equal(t, map[string]int{"a": 15, "c": 15}, used(keys, 30), "none takes the turns of one that is set aside")
	require.Equal(t, 1, keys.SetAside())
	require.Nil(t, NewKeys(nil, nil).Next())
}

func TestAKeyIsSetAsideByWhatItsServiceSays(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, c := range []struct {
		name       string
		status     int
		retryAfter string
		aside      time.Duration
	}{
		{"unknown", 401, "", time.Minute},
		{"not allowed", 403, "7", time.Minute},
		{"limited, without a time", 429, "", 10 * time.Second},
		{"limited for seconds", 429, "42", 42 * time.Second},
		{"limited for no time", 429, "0", time.Second},
		{"limited for long", 429, "86400", 5 * time.Minute},
		{"limited until a date", 429, "in a minute", time.Minute},
		{"limited until a date that is over", 429, "a minute ago", time.Second},
		{"limited until nobody knows when", 429, "-1", 10 * time.Second},
		{"a wrong request", 400, "", 0},
		{"a service in trouble", 503, "30", 0},
		{"an answer", 200, "", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			keys, key, _, _ := threeKeys()
			switch c.retryAfter {
			case "in a minute":
				c.retryAfter = in(time.Minute)
			case "a minute ago":
				c.retryAfter = in(-time.Minute)
			}
			began := time.Now()
			require.Equal(t, c.aside > 0, key.Answered(c.status, http.Header{"Retry-After": {c.retryAfter}}), c.name)
			for used(keys, 3)["a"] == 0 {
				time.Sleep(time.Second)
			}
			require.Equal(t, c.aside, time.Since(began), c.name)
		})
	}
}

func TestAKeyThatIsRefusedAgainIsSetAsideForLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys, key, _, _ := threeKeys()
		for _, minutes := range []int{1, 2, 4, 8, 15, 15} {
			require.True(t, key.Answered(401, nil))
			require.False(t, key.Answered(401, nil), "what was sent before counts once")
			time.Sleep(time.Duration(minutes)*time.Minute - 1)
			require.Zero(t, used(keys, 30)["a"])
			time.Sleep(time.Nanosecond)
			require.Equal(t, 1, used(keys, 30)["a"], "one request probes it")
		}
		require.False(t, key.Answered(200, nil))
		require.Equal(t, 10, used(keys, 30)["a"])
		require.Zero(t, keys.SetAside())
		key.Answered(401, nil)
		time.Sleep(time.Minute)
		require.Equal(t, 1, used(keys, 30)["a"], "it begins anew")
	})
}

func TestTheFirstToComeBackIsUsedWhenAllKeysAreSetAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys, a, b, c := threeKeys()
		a.Answered(401, nil)
		b.Answered(429, http.Header{"Retry-After": {"20"}})
		c.Answered(429, http.Header{"Retry-After": {"30"}})
		require.Equal(t, map[string]int{"b": 5}, used(keys, 5))
		time.Sleep(20 * time.Second)
		require.Same(t, b, keys.Next())
		b.Answered(429, http.Header{"Retry-After": {"60"}})
		require.Same(t, c, keys.Next())
	})
	only := NewKeys([]string{"only"}, nil)
	only.Next().Answered(403, nil)
	require.NotNil(t, only.Next())
	require.Equal(t, 1, only.SetAside())
	only.Next().Answered(200, nil)
	require.Zero(t, only.SetAside())
}

func TestAKeyKeepsItsStandingWhenOthersComeAndGo(t *testing.T) {
	t.Parallel()
	keys, a, _, _ := threeKeys()
	a.Answered(401, nil)
	after := NewKeys([]string{"d", "a"}, keys)
	require.Equal(t, map[string]int{"d": 4}, used(after, 4))
	require.Equal(t, 1, after.SetAside())
}

func TestKeysMayBeUsedAtOnce(t *testing.T) {
	t.Parallel()
	keys, _, _, _ := threeKeys()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 200 {
				keys.Next().Answered([]int{200, 401, 429, 500}[i%4], nil)
			}
		})
	}
	all.Wait()
	require.NotNil(t, keys.Next())
}
