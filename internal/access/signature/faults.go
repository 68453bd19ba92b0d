package signature

import (
	"fmt"

	"github.com/engineshed/engineshed/internal/fault"
)

// What Keys, Nonces and a failed comparison answer.
var (
	ErrUnknownKey  = fault.New(fault.NotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
	ErrInactiveKey = fault.New(fault.NotFound, "InvalidAccessKeyId.Inactive", "Specified access key is disabled.")
	ErrExpired     = fault.New(fault.Invalid, "InvalidTimeStamp.Expired", "The request was signed more than 15 minutes before or after now: check the clock, then sign it again.")
	ErrNonceUsed   = fault.New(fault.Invalid, "SignatureNonceUsed", "Specified signature nonce was used already: sign every request, retries too, with a new one.")
	ErrMismatch    = fault.New(fault.Denied, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation.")
)

// Requests that cannot be signed correctly as they stand.
var (
	ErrIncomplete       = fault.New(fault.Invalid, "IncompleteSignature", "The request signature does not conform to Alibaba Cloud standards.")
	ErrUnsupported      = fault.New(fault.Invalid, "UnsupportedSignature", "The request must be signed with ACS3-HMAC-SHA256, or with RPC or ROA signature version 1.0 and HMAC-SHA1.")
	ErrTimestampFormat  = fault.New(fault.Invalid, "InvalidTimeStamp.Format", "The date of the request must be UTC in the form 2006-01-02T15:04:05Z.")
	ErrMethod           = fault.New(fault.Denied, "UnsupportedHTTPMethod", "This API is called with GET or POST, and paths of path-style products also with PUT or DELETE.")
	ErrFormat           = fault.New(fault.Invalid, "UnsupportedParameter", "The parameter Format must be JSON: no other is supported.")
	ErrContentEncoding  = fault.New(fault.UnsupportedMedia, "UnsupportedContentEncoding", "The request body must not have a Content-Encoding.")
	ErrContentType      = fault.New(fault.UnsupportedMedia, "UnsupportedContentType", "The Content-Type of a request body must be application/x-www-form-urlencoded or application/json, in UTF-8.")
	ErrInvalidPath      = fault.New(fault.Invalid, "InvalidPath", "The request path is not valid.")
	ErrInvalidParameter = fault.New(fault.Invalid, "InvalidParameter", "A parameter is not valid.")
)

func incomplete(format string, args ...any) error {
	return ErrIncomplete.Withf("%s In this case: %s.", ErrIncomplete.Message, fmt.Sprintf(format, args...))
}

// What is wrong with the security token of a request, told to whom can sign.
var (
	ErrTokenMalformed = fault.New(fault.Invalid, "InvalidSecurityToken.Malformed", "The security token is not one that AssumeRole answers.")
	ErrTokenExpired   = fault.New(fault.Invalid, "InvalidSecurityToken.Expired", "The session has expired: call AssumeRole again.")
	ErrTokenMismatch  = fault.New(fault.Invalid, "InvalidSecurityToken.MismatchWithAccessKey", "The security token does not belong to the access key: send both as AssumeRole answered them.")
	ErrTokenMissing   = fault.New(fault.Invalid, "MissingSecurityToken", "The access key is of a session: send the security token that AssumeRole answered with it.")
)
