package api_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/api/apitest"
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestTheSourceOfACallIsTheSocketOrWhatAProxyOfOursSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trusted   []netip.Prefix
		forwarded []string // X-Forwarded-For, one header each
		proto     []string
		ip        string
		secure    bool
	}{
		"no proxy is trusted":          {nil, []string{"203.0.113.7"}, []string{"https"}, "127.0.0.1", false},
		"another proxy is trusted":     {prefixes("10.0.0.0/8"), []string{"203.0.113.7"}, []string{"https"}, "127.0.0.1", false},
		"a proxy":                      {prefixes("127.0.0.0/8"), []string{"203.0.113.7"}, []string{"https"}, "203.0.113.7", true},
		"a proxy that says nothing":    {prefixes("127.0.0.1/32"), nil, nil, "127.0.0.1", false},
		"what the client made up":      {prefixes("127.0.0.0/8"), []string{"10.0.0.1, 203.0.113.7"}, []string{"https, http"}, "203.0.113.7", false},
		"in a header of its own":       {prefixes("127.0.0.0/8"), []string{"10.0.0.1", "203.0.113.7"}, []string{"https", "http"}, "203.0.113.7", false},
		"two proxies":                  {prefixes("127.0.0.0/8", "10.0.0.0/8"), []string{"198.51.100.1, 203.0.113.7 ,10.1.2.3"}, nil, "203.0.113.7", false},
		"nobody but proxies":           {prefixes("127.0.0.0/8", "10.0.0.0/8"), []string{"10.0.0.1,10.0.0.2"}, nil, "10.0.0.1", false},
		"IPv6":                         {prefixes("127.0.0.0/8"), []string{"2001:db8::1%eth0"}, []string{"HTTPS"}, "2001:db8::1", true},
		"an IPv4 address in IPv6":      {prefixes("127.0.0.0/8", "10.0.0.0/8"), []string{"203.0.113.7, ::ffff:10.0.0.1"}, nil, "203.0.113.7", false},
		"what is no address":           {prefixes("127.0.0.0/8"), []string{"203.0.113.7, unknown"}, nil, "invalid IP", false},
		"an empty header":              {prefixes("127.0.0.0/8"), []string{""}, []string{""}, "invalid IP", false},
		"a proxy beyond what is known": {prefixes("127.0.0.0/8", "10.0.0.0/8"), []string{"unknown, 203.0.113.7, 10.0.0.1"}, nil, "203.0.113.7", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &handler{}
			s := apitest.With(t, apitest.Config{TrustedProxies: c.trusted}, productOf(t, document, h))
			r := s.Request(http.MethodPost, "/", strings.NewReader(url.Values{
				"DBInstanceId": {id}, "SourceIp": {"192.0.2.1"}, "SecureTransport": {"true"},
			}.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("x-acs-source-ip", "192.0.2.2")
			r.Header.Set("x-acs-secure-transport", "true")
			r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"] = c.forwarded, c.proto
			a := s.Signed(apitest.RootKey, "Get", r)
			require.Equal(t, 200, a.Status, a.Body)
			require.Equal(t, c.ip, h.caller.SourceIP.String())
			require.Equal(t, c.secure, h.caller.Secure)
			require.False(t, h.caller.Time.IsZero())
		})
	}
}

func TestAPolicyMayAskWhereACallComesFrom(t *testing.T) {
	t.Parallel()
	s := apitest.With(t, apitest.Config{TrustedProxies: prefixes("127.0.0.0/8")}, productOf(t, document, &handler{}))
	s.Users(map[string]string{"ann": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"test:*","Resource":"*",
		"Condition":{"IpAddress":{"acs:SourceIp":"203.0.113.0/24"},"Bool":{"acs:SecureTransport":"true"}}}]}`})
	for _, c := range []struct {
		ip, proto string
		status    int
	}{{"203.0.113.7", "https", 200}, {"203.0.114.7", "https", 403}, {"203.0.113.7", "http", 403}, {"unknown", "https", 403}} {
		r := s.Request(http.MethodPost, "/?DBInstanceId="+id, nil)
		r.Header.Set("X-Forwarded-For", c.ip)
		r.Header.Set("X-Forwarded-Proto", c.proto)
		require.Equal(t, c.status, s.Signed(apitest.KeyOf("ann"), "Get", r).Status, "%+v", c)
	}
}
