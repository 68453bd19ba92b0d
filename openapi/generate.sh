#!/bin/sh
# Generates the server interfaces and the client from the documents. Run it as `go generate ./openapi`.
set -eu
cd "$(dirname "$0")/.."
mkdir -p internal/oapi/common internal/oapi/gpdb internal/oapi/apig sdk/gpdb sdk/apig
generate() {
	go tool -modfile=internal/tools/generate/go.mod oapi-codegen -config "openapi/$1.cfg.yaml" "openapi/$2.yaml"
}
generate common.server common
generate gpdb.server gpdb
generate apig.server apig
generate common.sdk common
generate gpdb.sdk gpdb
generate common.apig common
generate apig.sdk apig
mkdir -p internal/oapi/audit sdk/audit
generate audit.server audit
generate common.audit common
generate audit.sdk audit
