// Package openapi holds the documents that describe the API: the single source of its paths, types and permissions.
package openapi

import "embed"

//go:generate ./generate.sh

// Files holds common.yaml and one document for each product.
//
//go:embed common.yaml gpdb.yaml apig.yaml audit.yaml ram.yaml sts.yaml resourcemanager.yaml
var Files embed.FS
