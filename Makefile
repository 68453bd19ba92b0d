# Engineshed. `make help` lists the verbs.
SHELL := /bin/bash
BIN := bin
LINT := go tool -modfile=internal/tools/lint/go.mod golangci-lint
# -race needs a C compiler.
RACE := $(shell command -v $$(go env CC) >/dev/null 2>&1 && [ "$$(go env CGO_ENABLED)" = 1 ] && echo -race)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## build the binaries into bin/
	@mkdir -p $(BIN)
	@go build -o $(BIN)/ ./cmd/...

.PHONY: demo
demo: build ## start everything, deploy a model through the signed API, chat with it, clean up
	@$(BIN)/engineshed demo

.PHONY: up
up: build ## start everything and stay (Ctrl-C stops it)
	@$(BIN)/engineshed up

.PHONY: test
test: ## run the whole test suite that needs Go only
	go test $(RACE) ./...
	cd e2e && go test -count 1 $(RACE) ./... # it builds the binaries by itself, which the cache does not see

.PHONY: test-clients
test-clients: build ## call everything with the official clients (needs Python 3.11 or later)
	@e2e/clients/run

.PHONY: e2e-vllm
e2e-vllm: ## the main job with a real vLLM on this machine's processor (installs 6 GB of Python the first time; takes minutes)
	@e2e/vllm/run

.PHONY: several-hosts
several-hosts: ## three hosts in namespaces of their own, of which some are lost under streams (needs root, iproute2, util-linux)
	cd e2e && go test -tags hosts -count 1 -v -timeout 15m -run '^TestSeveralHosts' .

.PHONY: check
check: generate-check vet lint ## lint, generated code unchanged, vet

.PHONY: lint
lint: ## run the linters
	$(LINT) run ./...
	cd e2e && go tool -modfile=../internal/tools/lint/go.mod golangci-lint run --build-tags vllm,hosts --config ../.golangci.yaml ./...

.PHONY: format
format: ## format the code
	$(LINT) fmt ./...
	cd e2e && go tool -modfile=../internal/tools/lint/go.mod golangci-lint fmt --config ../.golangci.yaml ./...

.PHONY: vet
vet:
	go vet ./...
	cd e2e && go vet -tags vllm,hosts ./...

.PHONY: generate
generate: ## generate code from the OpenAPI documents
	go generate ./openapi

.PHONY: generate-check
generate-check: generate
	@test -z "$$(git status --porcelain -- internal/oapi sdk)" || { \
		git status --short -- internal/oapi sdk; echo "generated code differs: run make generate and commit"; exit 1; }

.PHONY: bench
bench: ## measure what docs/performance.md promises and judge its floors, all of them; takes about twenty-five minutes
	@failed=0; \
	(cd e2e && go test -run '^$$' -bench ControlPlane -benchtime 1x -timeout 20m .) || failed=1; \
	go test -run '^$$' -bench '^BenchmarkScale$$' -benchtime 1x -timeout 20m ./internal/modelservice || failed=1; \
	go test -run '^$$' -bench '^BenchmarkDecision$$' -benchtime 1x -timeout 20m ./internal/iam || failed=1; \
	go test -run '^$$' -bench '^BenchmarkGateway(Latency)?$$|Contention' -benchtime 1x -timeout 40m ./internal/gateway || failed=1; \
	exit $$failed

.PHONY: bench-gate
bench-gate: ## the part of the benchmarks that every change must pass: work per CPU-second; takes a minute
	cd e2e && go test -run '^$$' -bench '^BenchmarkWork$$' -benchtime 1x .
	go test -run '^$$' -bench '^BenchmarkGatewayWork$$' -benchtime 1x ./internal/gateway

.PHONY: soak
soak: ## hold 5,000 streams, send a million requests, offer ten times the peak; takes about five minutes (SOAK_TIME=3m)
	go test -run '^$$' -bench '^BenchmarkSoak$$|^BenchmarkOverload$$' -benchtime 1x -timeout 30m ./internal/gateway

.PHONY: chaos
chaos: ## kill 500 processes under load and judge the world (ENGINESHED_KILLS=500, ENGINESHED_SEED=…), take the database away for a minute, restart gateways; takes half an hour
	cd e2e && ENGINESHED_OUTAGE=$${ENGINESHED_OUTAGE:-1m} ENGINESHED_BUSY=$${ENGINESHED_BUSY:-1m} go test -count 1 -v -timeout 20m \
		-run 'TestDatabaseAway|TestDamagedSnapshot|TestRollingRestart|TestABusyEngine' .
	cd e2e && ENGINESHED_KILLS=$${ENGINESHED_KILLS:-500} go test -count 1 -v -timeout 60m -run 'TestTheWorldIsAsAcknowledgedAfterKills' .

.PHONY: fuzz
fuzz: ## a million random policies against the plain evaluator, then every fuzz target for a while (FUZZTIME=30s each)
	POLICY_PAIRS=$${POLICY_PAIRS:-1000000} go test ./internal/access -run '^TestDecisionsAgreeWithTheNaiveEvaluator$$' -count 1 -timeout 30m -v
	@for target in $$(grep -rlE '^func Fuzz' --include='*_test.go' internal); do \
		for name in $$(grep -ohE '^func Fuzz[A-Za-z0-9]+' $$target | cut -c6-); do \
			go test ./$$(dirname $$target) -run '^$$' -fuzz "^$$name$$" -fuzztime $${FUZZTIME:-30s} || exit 1; \
		done; done

.PHONY: clean
clean: ## remove what make built
	rm -rf $(BIN)
