# SPDX-License-Identifier: Apache-2.0

GO       ?= go
FUZZTIME ?= 30s
DURATION ?= 10m
CUTS     ?= 100

version := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
tool    := $(GO) tool -modfile=tools/go.mod

.DEFAULT_GOAL := help
.PHONY: help build plugin run demo lab test lint fmt bench engines sim chaos powercut fuzz clean

help: ## show what there is to make
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

build: ## build bin/ipamlog
	$(GO) build -trimpath -ldflags '-X main.version=$(version)' -o bin/ipamlog .

# The engine copies the folder, and runs the program in it with nothing around:
# so it is linked statically.
plugin: ## build dist/plugin, the managed plugin for Swarm: see packaging/managed
	rm -rf dist/plugin
	mkdir -p dist/plugin/rootfs
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(version)' -o dist/plugin/rootfs/ipamlog .
	cp packaging/managed/config.json dist/plugin/

run: build ## build, and run the daemon with its embedded etcd
	./bin/ipamlog serve

demo: build ## build, and play a morning of containers without Docker
	./bin/ipamlog demo

lab: ## as root: a shell among LAB_HOSTS (3) hosts with real Docker engines, on an etcd cluster
	@sh scripts/prepare </dev/null
	@$(GO) build -o bin/lab-shell ./lab/shell
	@exec ./bin/lab-shell

# Where goroutines of ours share next to nothing the race detector finds little, and takes
# most of the time: it instruments the etcd of the test as well. Tests of these packages
# that do share run under it below. e2e starts the programs as they are built for users.
calm_tests := ipamlog$$|/archive$$|/backup$$|/config$$|/legacy$$|/events$$|/projection(/.*)?$$|/render$$|/replay/(columns|index|timespec)$$|/operator$$|/cli$$|/bench(/.*)?$$|/sim(/.*)?$$|/packaging(/.*)?$$|/e2e$$
calm_alone := ^TestReadFindsEveryCommit$$

# Namespaces and Docker engines take root; nobody else can run these. Their packages
# come one after the other: several engines on a machine are load enough.
engine_tests := /lab(/.*)?$$|/chaos$$|/e2e$$|ipamlog/engine$$|/hostnet$$

# Tests that say they are parallel mostly wait, for leases, refusals and engines: more
# of them run than there are processors. What they wait for, they wait for long.
go_test   = $(GO) test -count=1 -vet=off -timeout 18m -parallel 4
list      = $$($(GO) list ./... $(1))
with      = | grep -E '$(1)'
without   = | grep -Ev '$(1)'

test: ## run all tests, those with goroutines under the race detector; as root, on real Docker engines too
	@sh scripts/prepare
	$(GO) vet ./...
	$(go_test) $(call list,$(call without,$(engine_tests)) $(call with,$(calm_tests)))
	$(go_test) -run '$(calm_alone)' ./events/etcdlog
	$(go_test) -race -skip '$(calm_alone)' $(call list,$(call without,$(engine_tests)) $(call without,$(calm_tests)))
	$(go_test) -race -run 'TestManyAtOnce|TestRun_many' ./replay/index ./archive
ifeq ($(shell id -u),0)
	$(go_test) -race -p 1 $(call list,$(call with,$(engine_tests)) $(call without,$(calm_tests)))
	$(go_test) -p 1 $(call list,$(call with,$(engine_tests)) $(call with,$(calm_tests)))
else
	@echo "test: this is not root, so the tests on real Docker engines (lab, chaos, e2e, engine, hostnet) are left out: run it as root for those."
endif

lint: ## check style, the house's rules and known vulnerabilities (the first time builds the tools, some minutes)
	$(tool) golangci-lint run
	sh tools/vulncheck

fmt: ## format the code as lint wants it
	$(tool) gofumpt -w .

bench: ## measure against bare etcd writes, some 5 minutes; FLAGS=--short in under one
	$(GO) run ./bench $(FLAGS)

engines: ## as root: containers a second on real engines, beside Docker's own driver
	@sh scripts/prepare </dev/null
	$(GO) run ./bench/engines $(FLAGS)

sim: ## how many hosts one etcd carries, by simulation: see docs/scale.md
	$(GO) run ./sim $(FLAGS)

chaos: ## as root: daemons on a cluster for DURATION (10m) while everything around them breaks; SEED repeats a run
	@sh scripts/prepare </dev/null
	$(GO) run ./chaos --duration $(DURATION) $(if $(SEED),--seed $(SEED))

powercut: ## as root: cut the power of two hosts with real engines CUTS (100) times each; SEED repeats a run
	@sh scripts/prepare </dev/null
	$(GO) test -count=1 -timeout 24h -v -run '^TestPowerCut$$' ./e2e -cuts $(CUTS) $(if $(SEED),-seed $(SEED))

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$target in $$(dirname "$$file")"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s "$$(dirname "$$file")" </dev/null || exit 1; \
		done || exit 1; \
	done

clean: ## remove what was built
	rm -rf bin dist

.PHONY: deb rpm packages
packages: deb rpm ## make the deb and the rpm in dist: see packaging

deb:
	sh packaging/stage deb $(version)

rpm:
	sh packaging/stage rpm $(version)
