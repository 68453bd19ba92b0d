package snapshot

// Health is what a gateway process reports about services that are not well, by id. It says nothing about the others.
type Health map[string]ServiceHealth

// ServiceHealth is how requests of one gateway process to a service went of late. It is of a service that is not well.
type ServiceHealth struct {
	Ejected      bool     `json:"ejected,omitempty"`  // it failed again and again: other services are asked first
	Targets      int      `json:"targets"`            // its replicas or endpoints
	Outliers     []string `json:"outliers,omitempty"` // those that failed again and again: the ids of replicas, the host:port of endpoints
	Keys         int      `json:"keys,omitempty"`
	KeysSetAside int      `json:"keysSetAside,omitempty"` // refused by the service, or at its limits
}
