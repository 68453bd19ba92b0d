package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/secret"
)

// Site is how one hub is reached.
type Site struct {
	Endpoint string        // base URL: of the hub itself, or of a mirror that answers like it; "": the hub's own
	Proxy    string        // URL of a proxy; "": as HTTPS_PROXY and its relatives say; "direct": none
	Token    secret.Secret // sent to Endpoint alone, never to where that redirects to
}

// Config says how hubs are reached. The zero Config reaches the public ones.
type Config struct {
	HuggingFace Site
	ModelScope  Site
	Mirrors     map[string]Site // of the kind url, by host[:port]; their Endpoint is ignored
}

// The public hubs.
const (
	huggingFaceEndpoint = "https://huggingface.co"
	modelScopeEndpoint  = "https://www.modelscope.cn"
)

// direct is the Proxy of a site that is reached without one, whatever the environment says.
const direct = "direct"

// site is a hub that can be asked.
type site struct {
	endpoint string
	host     string
	client   *http.Client
}

// New checks c and returns the hubs. Nothing is asked yet.
func New(c Config) (*Hubs, error) {
	var errs []error
	made := func(name, usual string, s Site, cookie string) *site {
		if s.Endpoint == "" {
			s.Endpoint = usual
		}
		built, err := newSite(s, cookie)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return built
	}
	h := &Hubs{mirrors: make(map[string]*site, len(c.Mirrors))}
	h.huggingFace = made("huggingface", huggingFaceEndpoint, c.HuggingFace, "")
	h.modelScope = made("modelscope", modelScopeEndpoint, c.ModelScope, "m_session_id")
	h.plain = made("url", "https://invalid", Site{}, "")
	for host, s := range c.Mirrors {
		scheme := "https://"
		if loopback(host) {
			scheme = "http://"
		}
		h.mirrors[host] = made("url."+host, "", Site{Endpoint: scheme + host, Proxy: s.Proxy, Token: s.Token}, "")
	}
	return h, errors.Join(errs...)
}

// newSite returns the site. cookie names the cookie that the token travels in; "": it is a bearer token.
func newSite(s Site, cookie string) (*site, error) {
	endpoint, err := url.Parse(s.Endpoint)
	if err != nil || endpoint.Scheme != "https" && endpoint.Scheme != "http" || endpoint.Host == "" || endpoint.User != nil {
		return nil, errors.New("the endpoint must be an https:// or http:// address without a password")
	}
	if endpoint.Scheme == "http" && !s.Token.IsZero() && !loopback(endpoint.Host) {
		return nil, fmt.Errorf("a token would travel to %s in clear: give an https:// address", endpoint.Host)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true // sizes and parts are those of the file
	transport.ResponseHeaderTimeout = time.Minute
	switch s.Proxy {
	case "":
	case direct:
		transport.Proxy = nil
	default:
		proxy, err := url.Parse(s.Proxy)
		if err != nil || proxy.Host == "" || proxy.Scheme != "http" && proxy.Scheme != "https" && proxy.Scheme != "socks5" {
			return nil, errors.New("the proxy must be an http://, https:// or socks5:// address, or direct") // it may hold a password
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return &site{
		endpoint: strings.TrimRight(s.Endpoint, "/"), host: endpoint.Host,
		client: &http.Client{Transport: &bearer{transport, endpoint, s.Token, cookie}, CheckRedirect: follow},
	}, nil
}

func loopback(host string) bool {
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// bearer adds the token to requests for the hub itself. It stands below redirects, so what the hub redirects to is asked
// without one.
type bearer struct {
	next   http.RoundTripper
	hub    *url.URL
	token  secret.Secret
	cookie string
}

func (b *bearer) RoundTrip(request *http.Request) (*http.Response, error) {
	if !b.token.IsZero() && request.URL.Scheme == b.hub.Scheme && request.URL.Host == b.hub.Host {
		request = request.Clone(request.Context())
		if b.cookie != "" {
			request.AddCookie(&http.Cookie{Name: b.cookie, Value: b.token.Reveal()})
		} else {
			request.Header.Set("Authorization", "Bearer "+b.token.Reveal())
		}
	}
	return b.next.RoundTrip(request)
}

const maxRedirects = 10

// linkedKey is where a request's context has room for the checksum that a hub sends with a redirect.
type linkedKey struct{}

// follow lets hubs redirect to where their files are, but not out of TLS.
func follow(request *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if request.URL.Scheme != "https" && via[len(via)-1].URL.Scheme == "https" {
		return fmt.Errorf("a redirect leads to %s in clear", request.URL.Host)
	}
	if linked, ok := request.Context().Value(linkedKey{}).(*string); ok && *linked == "" {
		if sum := strings.Trim(request.Response.Header.Get("X-Linked-Etag"), `"`); sha256Text.MatchString(sum) {
			*linked = sum
		}
	}
	request.Header.Del("Referer")
	return nil
}

// get asks for address from offset on. linked is the checksum that came with a redirect or with the answer.
func (h *site) get(ctx context.Context, address string, offset int64) (response *http.Response, linked string, err error) {
	ctx = context.WithValue(ctx, linkedKey{}, &linked)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("User-Agent", "engineshed")
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	response, err = h.client.Do(request)
	if err != nil {
		return nil, "", bare(err)
	}
	if sum := strings.Trim(response.Header.Get("X-Linked-Etag"), `"`); linked == "" && sha256Text.MatchString(sum) {
		linked = sum
	}
	return response, linked, nil
}

// bare is an error of a request without its URL, which can be signed and so a secret, but for the host.
func bare(err error) error {
	failed, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	if address, parseErr := url.Parse(failed.URL); parseErr == nil {
		return fmt.Errorf("%s: %w", address.Host, failed.Err)
	}
	return failed.Err
}
