package api

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/engineshed/engineshed/internal/access/signature"
	"github.com/engineshed/engineshed/internal/api/rpc"
	"github.com/engineshed/engineshed/internal/api/strictjson"
	"github.com/engineshed/engineshed/internal/fault"
)

// MaxBody is the largest request body, in bytes.
const MaxBody = 10 << 20

var (
	errTooLarge = fault.New(fault.TooLarge, "RequestEntityTooLarge", "The request body is larger than 10 MiB.", "Send less in one call.")
	errShort    = fault.New(fault.Invalid, "InvalidRequest", "The request body ended early.", "Send the whole call again.")
)

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		// A client that is still sending would not see the answer. What it sends beyond this is its own loss.
		_, _ = io.CopyN(io.Discard, r.Body, MaxBody)
		return nil, errTooLarge
	}
	if err != nil {
		return nil, errShort
	}
	return body, nil
}

// find picks the product by the version and the operation by the action, or by method and path. All of it is signed.
func (s *server) find(r *http.Request, verified signature.Verified) (*operation, error) {
	product, ok := s.products[verified.Version]
	if !ok {
		return nil, errVersion.Withf("There is no version %q here.", verified.Version)
	}
	if product.Paths {
		return product.findByPath(r, verified)
	}
	op, ok := product.operations[verified.Action]
	if !ok || verified.Dialect == signature.ROAV1 {
		return nil, errAction.Withf("There is no operation %q in %s %s.", verified.Action, product.Name, product.Version)
	}
	return op, nil
}

// read returns the parameters: of a path-style operation, or of either form of another, which are POST / with Action and
// parameters, or POST /Operation with JSON.
func (o *operation) read(r *http.Request, body []byte, verified signature.Verified) (map[string]any, error) {
	if o.place != nil {
		return o.place.read(r, body, verified)
	}
	if r.URL.Path == "/" || r.URL.Path == "" {
		return rpc.Decode(o.schema, verified.Params)
	}
	switch {
	case r.URL.Path != "/"+o.name || verified.Dialect != signature.ACS3:
		return nil, errAction.Withf("The request was signed for %s: send it to / or to /%s.", o.name, o.name)
	case r.Method != http.MethodPost:
		return nil, signature.ErrMethod.Withf("/%s is called with POST.", o.name)
	case r.URL.RawQuery != "":
		return nil, fault.ErrInvalid.Withf("The parameters of /%s belong in the JSON body, not in the query.", o.name)
	case len(body) == 0:
		return map[string]any{}, nil
	case mediaType(r) != "application/json":
		return nil, signature.ErrContentType.Withf("The Content-Type of a request to /%s must be application/json.", o.name)
	}
	return decodeObject(body)
}

func decodeObject(body []byte) (map[string]any, error) {
	value, err := strictjson.Decode(body)
	if err != nil {
		return nil, fault.ErrInvalid.Withf("The request body is refused: %s.", err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, fault.ErrInvalid.Withf("The request body must be a JSON object.")
	}
	return object, nil
}

func mediaType(r *http.Request) string {
	value, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(value))
}
