# SPDX-License-Identifier: Apache-2.0
#
# Everything a contributor runs starts here; `make help` lists it. Needs Go and GNU make, the cluster
# targets also root on a Debian-like machine. Tools are pinned in hack/tools/go.mod.

SHELL := /usr/bin/env bash -o errexit -o nounset -o pipefail
.DEFAULT_GOAL := help

MODULE   := github.com/cluster-api-provider-kamaji/cluster-api-provider-kamaji
REGISTRY := ghcr.io/cluster-api-provider-kamaji

# Version of what is built. The release process sets it; metadata.yaml must have an entry for its minor.
VERSION ?= v0.1.0
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

TOOL           := go tool -modfile=hack/tools/go.mod
CONTROLLER_GEN := $(TOOL) controller-gen
KUSTOMIZE      := $(TOOL) kustomize
GOTESTSUM      := $(TOOL) gotestsum

LDFLAGS := -s -w -X $(MODULE)/internal/version.Version=$(VERSION) -X $(MODULE)/internal/version.Commit=$(COMMIT)
BINARIES := controlplane-manager infrastructure-manager kamaji-gateway

# Longest description kept in a CRD, in characters, cut at a sentence: what `kubectl explain` shows.
# Without a limit the pod types inside TenantControlPlane alone bring hundreds of kilobytes.
CRD_OPTIONS := crd:maxDescLen=240,headerFile=hack/boilerplate.yaml.txt

##@ General

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*##/ {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Code

.PHONY: generate
generate: ## Generate deepcopy functions, CRDs, RBAC and webhook manifests from the API types and markers.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths='{./controlplane/api/...,./infrastructure/api/...}'
	hack/generate-manifests.sh controlplane kamaji '$(CRD_OPTIONS)'
	hack/generate-manifests.sh infrastructure rack '$(CRD_OPTIONS)'

.PHONY: verify
verify: ## Check generated files, formatting, vet, licence headers; lint when golangci-lint is already built.
	hack/verify.sh

.PHONY: lint
lint: ## Run golangci-lint, with the import rules (builds it once, some minutes, into ~/.cache).
	"$$(hack/golangci-lint.sh build)" run ./...

# Tests that need a cluster or a long quiet machine have their own targets.
.PHONY: test
test: ## Run every test that needs no cluster.
	@assets=$${KUBEBUILDER_ASSETS:-}; \
	[[ -n $$assets ]] || assets=$$(go run ./test/lab assets); \
	packages=$$(go list ./... | grep -v -e '/test/e2e$$' -e '/test/bench$$'); \
	KUBEBUILDER_ASSETS=$$assets $(GOTESTSUM) --format=pkgname --format-hide-empty-pkg -- -timeout=30m $(TEST_FLAGS) $$packages

# Each fuzzer in turn; 60 s in all. By default Go would spend up to a minute on making one interesting input smaller, and
# none of it on others.
FUZZ_SECONDS ?= 30
FUZZED := hello proxyproto

.PHONY: fuzz
fuzz: ## Fuzz what the gateway reads from clients, for a minute.
	for package in $(FUZZED); do \
		go test -run='^$$' -fuzz='^FuzzParse$$' -fuzztime=$(FUZZ_SECONDS)s -fuzzminimizetime=10x ./controlplane/gateway/dataplane/$$package; \
	done

##@ Build

.PHONY: build
build: ## Build the three binaries into bin/.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(BINARIES))

.PHONY: images
images: build ## Build container images of the three binaries with docker.
	for program in $(BINARIES); do \
		docker build --quiet -f hack/Dockerfile --build-arg PROGRAM=$$program -t $(REGISTRY)/$$program:$(VERSION) bin; \
	done

.PHONY: release
release: ## Write the release artefacts for clusterctl to dist/.
	VERSION=$(VERSION) REGISTRY=$(REGISTRY) KUSTOMIZE='$(KUSTOMIZE)' hack/release.sh

.PHONY: version
version: ## Print the version that is built.
	@echo $(VERSION)

##@ Lab: a management cluster, a gateway, two hosts and a tenant cluster on this machine

.PHONY: quickstart
quickstart: ## From a bare machine to a tenant cluster with a Ready worker; run again to continue.
	go run ./test/lab quickstart

.PHONY: quickstart-down
quickstart-down: ## Remove everything quickstart made, except its caches.
	go run ./test/lab down

# Specs share one cluster, and those of a container build on each other; -v streams them.
E2E := go test -tags=e2e -count=1 -timeout=80m -v ./test/e2e --ginkgo.v

.PHONY: e2e-smoke
e2e-smoke: ## Run the quickstart's steps as end-to-end tests; what CI runs.
	$(E2E) --ginkgo.label-filter=smoke

.PHONY: e2e
e2e: ## Run them and the scenarios: upgrade, rotations, moves, an outage, thirty tenants.
	$(E2E) --ginkgo.label-filter='smoke || scenario'

.PHONY: e2e-full
e2e-full: ## Run all end-to-end tests, those of exposure, manifests and older versions too.
	$(E2E)

.PHONY: bench-scale
bench-scale: ## Measure the engine with a thousand tenants whose pods and API servers are simulated.
	KUBEBUILDER_ASSETS=$$(go run ./test/lab assets) go test -tags=scale -count=1 -timeout=90m -v ./test/scale

.PHONY: bench
bench: ## Measure; one BENCH line per figure (see docs/benchmarks.md).
	go run ./test/bench

.PHONY: bench-gateway
bench-gateway: ## Measure the gateway's data plane beside HAProxy and nginx; needs root on a Debian-like machine.
	go run ./test/bench/gateway
