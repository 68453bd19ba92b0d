package arch

import (
	"path"
	"slices"
	"strings"
)

// edge says that one package imports another. Packages of this repository are named by their folder, others in full.
type edge struct {
	from, to string
	test     bool // a test file does
}

// rule forbids edges.
type rule struct {
	name   string
	reason string
	breaks func(edge) bool
}

// order lists the folders of the repository from the top of the program to the bottom.
var order = []string{
	"e2e", "cmd", "internal/arch", "internal/up", "internal/controlplane", "internal/api", "internal/oapi", "internal/gateway",
	"internal/trial",
	"internal/modelapi",
	"internal/ingress", "internal/consumer", "internal/operator", "internal/usage",
	"internal/modelservice", "internal/aiservice", "internal/publish", "internal/resource", "internal/instance",
	"internal/iam/session", "internal/iam/directory", "internal/resourcegroup", "internal/idempotency",
	"internal/iam", "internal/audit", "internal/access", "internal/catalog", "internal/modelfile", "internal/route", "internal/snapshot", "internal/jobs", "internal/node",
	"internal/telemetry", "internal/postgres", "internal/child", "internal/secret", "internal/ids", "internal/fault", "internal/glob",
	"internal/strictyaml", "internal/config", "internal/tcp", "sdk", "openapi", "policies", "migrations",
}

var rules = []rule{
	{
		name:   "generated code stays in the api",
		reason: "one package converts between a document and the domain, so that an edited document reaches no further than its compiler errors",
		breaks: func(e edge) bool {
			return under(e.to, "internal/oapi") && !under(e.from, "internal/api", "internal/oapi")
		},
	},
	{
		name:   "OpenAPI stays in the api",
		reason: "the documents validate what comes in; the domain's own rules do not depend on them",
		breaks: func(e edge) bool {
			return under(e.to, "github.com/getkin/kin-openapi", "github.com/oapi-codegen") && !e.test &&
				!under(e.from, "internal/api", "internal/oapi", "sdk/gpdb", "sdk/apig", "sdk/audit")
		},
	},
	{
		name:   "HTTP stays at the edges",
		reason: "a domain that knows no HTTP is called by a job, a test and a handler alike, and answers with Go errors",
		breaks: func(e edge) bool {
			return e.to == "net/http" && !e.test && !under(e.from, "cmd", "sdk", "internal/up", "internal/controlplane", "internal/api",
				"internal/oapi", "internal/gateway", "internal/route", "internal/trial", "internal/access/signature", "internal/node/process", "internal/node/probe", "internal/telemetry",
				"internal/postgres/embedded", "internal/modelfile/hub", "internal/modelfile/hubtest")
		},
	},
	{
		name:   "Casbin stays in access",
		reason: "Casbin decides nothing by itself here: only access gives it the caller's rows and our own matching, without which its answers are wrong",
		breaks: func(e edge) bool { return under(e.to, "github.com/casbin") && e.from != "internal/access" },
	},
	{
		name:   "River stays where jobs are",
		reason: "a job is inserted in the transaction of the row it is about, by the package that owns the row; who else held a client could break that",
		breaks: func(e edge) bool {
			return under(e.to, "github.com/riverqueue/river") && !under(e.from, "internal/modelservice", "internal/publish",
				"internal/jobs", "internal/controlplane", "internal/postgres")
		},
	},
	{
		name:   "drivers stop at node",
		reason: "replicas are driven through the node.Driver contract, so that hosts and clusters need no second set of rules",
		breaks: func(e edge) bool {
			return under(e.to, "internal/node/process", "internal/node/kubernetes") && !under(e.from, "internal/node", "internal/controlplane", "internal/up")
		},
	},
	{
		name: "the gateway shares what is published with the control plane, how a request is matched to it, and no other behaviour",
		reason: "it goes on serving while the control plane and its database are away, and is released on its own; the matcher is a pure " +
			"function of what is published, so that what the control plane says about a request is what a gateway does",
		breaks: func(e edge) bool {
			if !under(e.from, "internal/gateway", "cmd/gateway") || !ours(e.to) || e.test && e.to == "internal/postgres/pgtest" {
				return false
			}
			return !under(e.to, "internal/gateway", "internal/route", "internal/snapshot", "internal/secret", "internal/telemetry",
				"internal/config", "internal/ids", "internal/glob", "internal/tcp") &&
				e.to != "internal/postgres"
		},
	},
	{
		name:   "the matcher knows what is published and nothing else",
		reason: "both programs carry it, so that it may depend on neither",
		breaks: func(e edge) bool {
			return under(e.from, "internal/route") && ours(e.to) && !e.test && !under(e.to, "internal/snapshot", "internal/glob")
		},
	},
	{
		name:   "nothing but its command uses the gateway",
		reason: "the control plane reaches a gateway through what it publishes, and in a trial as any client does, never by calling into it",
		breaks: func(e edge) bool {
			return under(e.to, "internal/gateway") && !under(e.from, "internal/gateway", "cmd/gateway")
		},
	},
	{
		name:   "the SDK stands alone",
		reason: "programs elsewhere are built with it, and they cannot import what is internal here",
		breaks: func(e edge) bool {
			return under(e.from, "sdk") && under(e.to, "internal", "openapi", "policies", "migrations")
		},
	},
	{
		name:   "servers do not call themselves through the SDK",
		reason: "what is called in the same process is called as Go, without a signature and a port in between",
		breaks: func(e edge) bool {
			return under(e.to, "sdk") && !e.test && !under(e.from, "sdk", "cmd/engineshed", "internal/api/apitest")
		},
	},
	{
		name:   "the stand-in engine shares no code with what it tests",
		reason: "a shared mistake would not show: it speaks vLLM's protocol as anybody reads it",
		breaks: func(e edge) bool { return under(e.from, "cmd/vllm-sim") && under(e.to, "internal") },
	},
	{
		name:   "test code stays in tests",
		reason: "what tests need does not belong in the binaries",
		breaks: func(e edge) bool {
			return !e.test && !under(e.from, testSupport...) &&
				(under(e.to, testSupport...) || under(e.to, "testing", "github.com/stretchr/testify", "pgregory.net/rapid", "go.uber.org/goleak"))
		},
	},
	{
		name:   "arrows point down",
		reason: "what imports nothing above itself can be understood and tested without it (the order is in internal/arch)",
		breaks: func(e edge) bool {
			return ours(e.to) && !e.test && !under(e.from, testSupport...) && (level(e.from) < 0 || level(e.from) > level(e.to))
		},
	},
}

// testSupport are the packages that exist for tests.
var testSupport = []string{"internal/postgres/pgtest", "internal/node/nodetest", "internal/api/apitest", "internal/modelfile/hubtest"}

// under reports whether pkg is one of the folders or lies in one.
func under(pkg string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		return pkg == folder || strings.HasPrefix(pkg, folder+"/")
	})
}

// ours reports whether pkg lies in this repository.
func ours(pkg string) bool {
	return under(pkg, "cmd", "internal", "sdk", "openapi", "policies", "migrations", "e2e")
}

// level is the place of pkg in the order, or -1.
func level(pkg string) int {
	return slices.IndexFunc(order, func(folder string) bool { return under(pkg, folder) })
}

// emptyNames say where a thing was put, not what it is.
var emptyNames = []string{"util", "utils", "common", "shared", "misc", "types", "models", "helper", "helpers"}

// namesNothing reports whether the last folder of a path has one of the empty names.
func namesNothing(folder string) bool {
	return slices.Contains(emptyNames, path.Base(folder)) && path.Dir(folder) != "internal/oapi" // there it is a document's name
}
