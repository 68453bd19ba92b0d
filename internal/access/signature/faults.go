package signature

import (
	"fmt"

	"github.com/engineshed/engineshed/internal/fault"
)

// What Keys, Nonces and a failed comparison answer.
var (
	ErrUnknownKey = fault.New(fault.NotFound, "InvalidAccessKeyId.NotFound",
		"Specified access key is not found.",
		"Check the access key id and the endpoint: the key may be deleted, or of another installation.")
	ErrInactiveKey = fault.New(fault.NotFound, "InvalidAccessKeyId.Inactive",
		"Specified access key is disabled.", "Have it set to Active with UpdateAccessKey, or sign with another.")
	ErrExpired = fault.New(fault.Invalid, "InvalidTimeStamp.Expired",
		"The request was signed more than 15 minutes before or after now, or before the database was started again after a crash.",
		"Check the clock, then sign the request again.")
	ErrNonceUsed = fault.New(fault.Invalid, "SignatureNonceUsed",
		"Specified signature nonce was used already.", "Sign every request, retries too, with a new one.")
	ErrMismatch = fault.New(fault.Denied, "SignatureDoesNotMatch",
		"Specified signature is not matched with our calculation.",
		"Check the secret, then compare your string to sign with the one in the message, if it has one.")
)

// Requests that cannot be signed correctly as they stand.
var (
	ErrIncomplete = fault.New(fault.Invalid, "IncompleteSignature",
		"The request signature does not conform to Alibaba Cloud standards.",
		"Add or correct the part that the message names; the official SDKs and the CLI sign as they must.")
	ErrUnsupported = fault.New(fault.Invalid, "UnsupportedSignature",
		"The request is signed in a way that is not served.",
		"Sign with ACS3-HMAC-SHA256, or with RPC or ROA signature version 1.0 and HMAC-SHA1.")
	ErrTimestampFormat = fault.New(fault.Invalid, "InvalidTimeStamp.Format",
		"The date of the request must be UTC in the form 2006-01-02T15:04:05Z, or in the Date header in that of HTTP.",
		"Send it in that form and sign again.")
	ErrMethod = fault.New(fault.Denied, "UnsupportedHTTPMethod",
		"The operation is not called with this method.",
		"Use GET or POST, and for paths of path-style products the method that docs/compatibility.md or the message names.")
	ErrFormat = fault.New(fault.Invalid, "UnsupportedParameter",
		"The parameter Format must be JSON: no other is supported.", "Send Format=JSON, or leave it out.")
	ErrContentEncoding = fault.New(fault.UnsupportedMedia, "UnsupportedContentEncoding",
		"The request body must not have a Content-Encoding.", "Send it uncompressed and without that header.")
	ErrContentType = fault.New(fault.UnsupportedMedia, "UnsupportedContentType",
		"The Content-Type of a request body must be application/x-www-form-urlencoded or application/json, in UTF-8.",
		"Send the one that the operation takes.")
	ErrInvalidPath = fault.New(fault.Invalid, "InvalidPath",
		"The request path is not in its one canonical spelling.",
		"Send it without empty or dot segments and without needless percent-encoding, and sign that.")
)

func incomplete(format string, args ...any) error {
	return ErrIncomplete.Withf("%s In this case: %s.", ErrIncomplete.Cause, fmt.Sprintf(format, args...))
}

// What is wrong with the security token of a request, told to whom can sign.
var (
	ErrTokenMalformed = fault.New(fault.Invalid, "InvalidSecurityToken.Malformed",
		"The security token is not one that AssumeRole answers, or not where its signature covers it.",
		"Send it as AssumeRole answered it, in x-acs-security-token or SecurityToken, and sign it.")
	ErrTokenExpired = fault.New(fault.Invalid, "InvalidSecurityToken.Expired",
		"The session has expired.", "Call AssumeRole again.")
	ErrTokenMismatch = fault.New(fault.Invalid, "InvalidSecurityToken.MismatchWithAccessKey",
		"The security token does not belong to the access key.", "Send both as AssumeRole answered them; a user's own key has no token.")
	ErrTokenMissing = fault.New(fault.Invalid, "MissingSecurityToken",
		"The access key is of a session.", "Send the security token that AssumeRole answered with it.")
)
