package postgres

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/engineshed/engineshed/internal/secret"
)

// WithUser returns the database URL (or key=value string) with another user and password.
func WithUser(database, user string, password secret.Secret) (string, error) {
	if !strings.HasPrefix(database, "postgres://") && !strings.HasPrefix(database, "postgresql://") {
		return fmt.Sprintf("%s user=%s password=%s", database, quoteValue(user), quoteValue(password.Reveal())), nil
	}
	u, err := url.Parse(database)
	if err != nil {
		return "", fmt.Errorf("read the database URL: it is not a URL") // the error of url.Parse shows the password
	}
	u.User = url.UserPassword(user, password.Reveal())
	query := u.Query()
	query.Del("user")
	query.Del("password")
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// quoteValue quotes a value of a key=value connection string.
func quoteValue(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
