package aiservice

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engineshed/engineshed/internal/snapshot"
)

func TestAddressesAreKeptInOneForm(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://API.Example.com":         "https://api.example.com",
		"https://api.example.com./v1/":    "https://api.example.com/v1",
		"http://8.8.8.8:8000/":            "http://8.8.8.8:8000",
		"https://[2606:4700::1111]":       "https://[2606:4700::1111]",
		"https://[2606:4700::1111]:8443/": "https://[2606:4700::1111]:8443",
		"http://my_service.internal:80":   "http://my_service.internal:80",
	} {
		got, err := checkURL("address", address, snapshot.AllowedUpstream{})
		require.NoError(t, err, address)
		require.Equal(t, want, got)
	}
}

// badAddresses are refused with the words they are listed with.
var badAddresses = map[string]string{
	"":                                      "begin with https://",
	"api.example.com":                       "begin with https://",
	"ftp://api.example.com":                 "begin with https://",
	"file:///etc/passwd":                    "begin with https://",
	"https:api.example.com":                 "not a URL",
	"https://":                              "host name",
	"https:///v1":                           "host name",
	"https://user:pass@api.example.com":     "user or a password",
	"https://api.example.com?key=1":         "query",
	"https://api.example.com?":              "query",
	"https://api.example.com/#a":            "fragment",
	"https://api.example.com/#":             "fragment",
	"https://api.example.com/a/../b":        "plain",
	"https://api.example.com//v1":           "plain",
	"https://api.example.com/%2e%2e/v1":     "plain",
	"https://api.example.com/a%2fb":         "plain",
	"https://api.example.com/a%20b":         "plain",
	"https://api.example.com/a%0d%0ab":      "plain",
	"https://api.example.com/v1/messages":   "base URL",
	"https://e.com/v1/chat/completions":     "base URL",
	"https://api.example.com:0":             "port",
	"https://api.example.com:99999":         "port",
	"https://api.example.com:":              "port",
	"https://api_.example..com":             "host name",
	"https://exa mple.com":                  "not a URL",
	"https://exämple.com":                   "host name",
	"http://localhost":                      "--allow-upstream",
	"http://LOCALHOST.:8000":                "--allow-upstream",
	"http://db.localhost":                   "--allow-upstream",
	"http://127.0.0.1:8000":                 "--allow-upstream",
	"http://[::1]:8000":                     "--allow-upstream",
	"http://[::ffff:127.0.0.1]":             "--allow-upstream",
	"http://[::ffff:7f00:1]":                "--allow-upstream",
	"http://[64:ff9b::7f00:1]":              "--allow-upstream",
	"http://[fe80::1%25eth0]":               "--allow-upstream",
	"http://10.0.0.1":                       "--allow-upstream",
	"http://169.254.169.254/latest":         "--allow-upstream",
	"http://100.100.100.200/latest":         "--allow-upstream",
	"http://0.0.0.0":                        "--allow-upstream",
	"http://127.1":                          "host name",
	"http://2130706433":                     "host name",
	"http://0x7f000001":                     "host name",
	"http://0x7f.0.0.0x1":                   "host name",
	"http://017700000001":                   "host name",
	"https://" + strings.Repeat("a.", 2000): "longer than",
}

func TestBadAddressesAreRefused(t *testing.T) {
	t.Parallel()
	for address, want := range badAddresses {
		_, err := checkURL("address", address, snapshot.AllowedUpstream{})
		require.ErrorContains(t, err, want, address)
		require.ErrorContains(t, err, "InvalidParameter: The parameter address", address)
	}
}

func TestWhatTheOperatorAllowedCanBeSaved(t *testing.T) {
	t.Parallel()
	allowed, err := snapshot.ParseAllowedUpstream([]string{"127.0.0.1:8000,10.1.0.0/16"})
	require.NoError(t, err)
	for address, ok := range map[string]bool{
		"http://127.0.0.1:8000": true, "http://127.0.0.1:8001": false, "http://localhost:8000": true, "http://localhost:8001": false,
		"http://[::ffff:127.0.0.1]:8000": true, "http://10.1.2.3": true, "http://10.2.2.3": false,
	} {
		_, err := checkURL("address", address, allowed)
		require.Equal(t, ok, err == nil, "%s: %v", address, err)
	}
}

func TestHostPortsAreChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sourceType, address, want string }{
		{DNS, "models.example.com:8000", ""},
		{DNS, "8.8.8.8:8000", ""},
		{VIP, "8.8.8.8:8000", ""},
		{VIP, "[2606:4700::1111]:8000", ""},
		{VIP, "models.example.com:8000", "IP addresses"},
		{DNS, "models.example.com", "host:port"},
		{DNS, "http://models.example.com:80", "host:port"},
		{DNS, "models.example.com:http", "port"},
		{DNS, "models.example.com/a:80", "host name"},
		{DNS, "user@models.example.com:80", "host name"},
		{DNS, ":80", "host name"},
		{DNS, "localhost:80", "--allow-upstream"},
		{VIP, "192.168.1.1:80", "--allow-upstream"},
	} {
		_, err := checkHostPorts("addresses", c.sourceType, []string{c.address}, snapshot.AllowedUpstream{})
		if c.want == "" {
			require.NoError(t, err, c.address)
		} else {
			require.ErrorContains(t, err, c.want, c.address)
		}
	}
	_, err := checkHostPorts("addresses", DNS, []string{"a.example.com:80", "A.example.com:80"}, snapshot.AllowedUpstream{})
	require.ErrorContains(t, err, "named twice")
	_, err = checkHostPorts("addresses", DNS, nil, snapshot.AllowedUpstream{})
	require.ErrorContains(t, err, "at least one")
}
