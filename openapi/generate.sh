#!/bin/sh
# Generates the server interfaces and the client from the documents. Run it as `go generate ./openapi`.
set -eu
cd "$(dirname "$0")/.."
mkdir -p internal/oapi/common
for product in gpdb apig audit ram sts resourcemanager; do
	mkdir -p "internal/oapi/$product" "sdk/$product"
done
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
generate audit.server audit
generate common.audit common
generate audit.sdk audit
for product in ram sts resourcemanager; do
	generate "$product.server" "$product"
	generate "common.$product" common
	generate "$product.sdk" "$product"
done
