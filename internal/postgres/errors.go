package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// IsUniqueViolation reports whether err is a row that broke the named unique constraint or index; an empty name stands
// for any.
func IsUniqueViolation(err error, constraint string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23505" && (constraint == "" || pg.ConstraintName == constraint)
}

// IsForeignKeyViolation reports whether err is a row that names another that does not exist, or a deleted one that is
// still named, by the named constraint; an empty name stands for any.
func IsForeignKeyViolation(err error, constraint string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23503" && (constraint == "" || pg.ConstraintName == constraint)
}

// IsUnavailable reports whether err says that the database is away (not reachable, starting, stopping) or out of what it
// needs (connections, disk, memory), so that the same call may succeed later. A caller's own cancellation is not that.
func IsUnavailable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "53")
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	_, isNet := errors.AsType[net.Error](err)
	return isNet || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err)
}
