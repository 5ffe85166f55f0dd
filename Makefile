# Serin's chores. `make` lists them. Needs Go, make and git, and nothing else:
# what is missing is built or fetched into .tools (see tools/README.md).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# One set of flags for every compile, so that build, vet and test share one cache.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)
export CGO_ENABLED := 0
export GOTOOLCHAIN := local

TOOLS := $(CURDIR)/.tools/bin
export PATH := $(TOOLS):$(PATH)

# The tests that wait most come first and run beside the others, so that these
# have all processors at work meanwhile.
TESTS := ./test/e2e ./bench/decision ./...
ATONCE = -p=$$(($$(getconf _NPROCESSORS_ONLN) + 2))

# In CI a missing part fails the test that needs it, and no result is reused.
ifeq ($(CI),true)
TESTFLAGS ?= -count=1
endif

##@ Use

.PHONY: build
build: ## compile bin/serin
	go build -buildvcs=auto -ldflags '-s -w' -o bin/serin ./cmd/serin

.PHONY: demo
demo: build ## watch a bad release being caught and a good one promoted
	bin/serin demo

##@ Work

.PHONY: test
test: build tools generated lint ## everything that must hold before a commit
	SERIN_BIN=$(CURDIR)/bin/serin go test -vet=off -timeout=40m $(ATONCE) $(TESTFLAGS) $(TESTS)

.PHONY: race
race: build tools ## the tests under the race detector (needs a C compiler)
	SERIN_BIN=$(CURDIR)/bin/serin CGO_ENABLED=1 go test -race -vet=off -timeout=40m $(ATONCE) $(TESTFLAGS) $(TESTS)

.PHONY: lint
lint: $(TOOLS)/lint ## go vet, staticcheck, exhaustive switches, unused code
	go vet ./...
	go vet -vettool=$(TOOLS)/lint ./...

.PHONY: cross
cross: ## compile for every platform we release for
	GOOS=linux GOARCH=arm64 go build -o /dev/null ./cmd/serin
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/serin

.PHONY: bench
bench: ## all benchmarks; bench-rollout and so on: those of one package
	go test -run='^$$' -bench=. -benchmem ./internal/...

.PHONY: bench-standalone
bench-standalone: build ## apply to effect, start and memory of the whole program
	SERIN_BIN=$(CURDIR)/bin/serin go test -run='^$$' -bench=ApplyToEffect -benchtime=200x ./bench
	SERIN_BIN=$(CURDIR)/bin/serin go test -run='^$$' -bench=Start -benchtime=10x ./bench

.PHONY: bench-proxy
bench-proxy: build tools-bench ## our proxy beside Envoy, HAProxy, nginx, Caddy and net/http
	go build -o bin/bench-proxy ./bench/proxy
	bin/bench-proxy $(BENCHFLAGS)

.PHONY: bench-decision
bench-decision: ## our judge beside the policies of Flagger, Argo Rollouts and Kayenta
	go build -o bin/bench-decision ./bench/decision
	bin/bench-decision $(BENCHFLAGS)

bench-%:
	go test -run='^$$' -bench=. -benchmem ./internal/$*/...

##@ Generated files

.PHONY: generate
generate: $(TOOLS)/controller-gen ## deep copies, CRDs, OpenAPI definitions, reference pages
	controller-gen object paths=./api/...
	go generate ./...

# Generates again and compares. The sum of all that goes in and comes out is
# kept, so that nothing is done when neither changed.
GENERATED = git ls-files -co --exclude-standard -- go.mod api internal/apiserver/openapi internal/apiserver/crds internal/docgen docs/reference tools \
  | sort | while read -r f; do test -f "$$f" && echo "$$f" && cat "$$f"; done | git hash-object --stdin

.PHONY: generated
generated: $(TOOLS)/controller-gen ## check that generated files are current
	@before=$$($(GENERATED)); \
	test "$$before" = "$$(cat .tools/generated 2>/dev/null)" && exit 0; \
	$(MAKE) --no-print-directory generate || exit 1; \
	if test "$$($(GENERATED))" != "$$before"; then \
	  echo 'generated files were out of date; they are current now: look at `git diff` and commit them' >&2; exit 1; fi; \
	echo "$$before" >.tools/generated

##@ Tools

.PHONY: tools
tools: $(TOOLS)/controller-gen $(TOOLS)/lint $(TOOLS)/kubectl $(TOOLS)/flagger $(TOOLS)/fetch ## build or fetch the pinned tools into .tools/bin
	@$(TOOLS)/fetch envoy chromium

.PHONY: tools-bench
tools-bench: $(TOOLS)/caddy $(TOOLS)/fetch ## the other proxies and the load generators of bench-proxy
	@$(TOOLS)/fetch envoy haproxy nginx wrk h2load

$(TOOLS)/controller-gen: tools/controller-gen/go.mod tools/controller-gen/go.sum .tools/go-version
	go build -C tools/controller-gen -ldflags '-s -w' -o $@ sigs.k8s.io/controller-tools/cmd/controller-gen

$(TOOLS)/lint: tools/lint/go.mod tools/lint/go.sum tools/lint/main.go .tools/go-version
	go build -C tools/lint -ldflags '-s -w' -o $@ .

# The library v0.36.6 is kubectl v1.36.6.
KUBECTL = $(patsubst v0.%,v1.%,$(shell go list -C tools/kubectl -m -f '{{.Version}}' k8s.io/kubectl))

$(TOOLS)/kubectl: tools/kubectl/go.mod tools/kubectl/go.sum tools/kubectl/main.go .tools/go-version
	go build -C tools/kubectl -ldflags '-s -w -X k8s.io/component-base/version.gitVersion=$(KUBECTL)' -o $@ .

$(TOOLS)/flagger: tools/flagger/go.mod tools/flagger/go.sum .tools/go-version
	go build -C tools/flagger -ldflags '-s -w' -o $@ github.com/fluxcd/flagger/cmd/flagger

$(TOOLS)/caddy: tools/caddy/go.mod tools/caddy/go.sum tools/caddy/main.go .tools/go-version
	go build -C tools/caddy -ldflags '-s -w' -o $@ .

$(TOOLS)/fetch: tools/fetch/go.mod $(wildcard tools/fetch/*.go) .tools/go-version
	go build -C tools/fetch -ldflags '-s -w' -o $@ .

# Tools are built again with another Go: a linter reads only what its own wrote.
.tools/go-version: FORCE
	@mkdir -p .tools; go version | cmp -s - $@ || go version >$@
FORCE:

##@ House

.PHONY: clean
clean: ## remove what was built, the tools included
	rm -rf bin .tools bench/out

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
