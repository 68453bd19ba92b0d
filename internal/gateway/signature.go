package gateway

import (
	"errors"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/gateway/config"
	"github.com/engineshed/engineshed/internal/gateway/identity"
)

// bySignature finds who has signed the request. Its body is compared when it is there.
func (c *call) bySignature(cfg *config.Config, api *config.API) (*config.Consumer, *refusal) {
	path, _, _ := strings.Cut(c.in.RequestURI, "?")
	signature, err := identity.ReadSignature(c.in, path)
	if err != nil {
		return nil, refuseSignature(err)
	}
	if !signature.IsFresh(time.Now()) {
		return nil, errSignatureDate
	}
	consumer, secret := cfg.Signer(api.AccountID, signature.AccessKey)
	if !signature.IsBy(secret) {
		return nil, errSignature
	}
	c.signature = signature
	return consumer, nil
}

// spendNonce takes note of the request, so that it is not answered again.
func (c *call) spendNonce(accountID string) *refusal {
	signer := accountID + "/" + c.signature.AccessKey
	switch err := c.nonces.Spend(signer, c.signature.Nonce, c.signature.Date, time.Now()); {
	case errors.Is(err, identity.ErrSpent):
		return errReplay
	case err != nil:
		return errNonces
	}
	return nil
}
