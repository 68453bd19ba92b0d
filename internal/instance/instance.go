// Package instance keeps DB instances, hosts, AI node pools, AI nodes and IP arrays, and decides where a replica goes.
package instance

import "time"

// Spec is what a caller asks Create for.
type Spec struct {
	AccountID       string
	RegionID        string
	Description     string
	ResourceGroupID string // "": the account's default group
	SecurityIPList  string // "": 127.0.0.1
	Nodes           []NodeSpec
	Tags            map[string]string
}

// NodeSpec asks for a number of AI nodes of one kind.
type NodeSpec struct {
	Spec  string
	Count int
}

// Instance is a DB instance: the owner of AI node pools, IP arrays and model services.
type Instance struct {
	ID              string
	AccountID       string
	RegionID        string
	Description     string
	ResourceGroupID string
	Tags            map[string]string
	CreatedAt       time.Time
}

// Filter narrows a list of instances; empty fields do not.
type Filter struct {
	RegionID        string
	IDs             []string
	Description     string
	ResourceGroupID string
	Tags            map[string]string
	Page            Page
}

// Page is one page of a list: Number from 1, Size from 1 to 100.
type Page struct {
	Number int
	Size   int
}

// Pool is an AI node pool with its nodes.
type Pool struct {
	ID    string
	Nodes []Node
}

// Node is an AI node.
type Node struct {
	Name           string
	Spec           string
	Host           string
	ModelServiceID string // "" while unbound
	CreatedAt      time.Time
	UpdatedAt      time.Time
}
