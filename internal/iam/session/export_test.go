package session

// What tests fill up.
const (
	MaxSessions = maxSessions
	MakeRoom    = makeRoom
)
