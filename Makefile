# guardring: build, demo, tests. `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help

GO      ?= go
POLICY  ?= disjoint
HOLD    ?=
VM      ?=
FUZZTIME ?= 3s
SOAK    ?= 20m
ARCHES  := amd64 arm64
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)

STATIC  := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X guardring/internal/version.stamp=$(VERSION)"
TOOLS   := .ci/tools/go.mod

# What a fresh Debian 12 with Go lacks, by the command or file that shows it.
need = $(if $(shell command -v $(1) 2>/dev/null),,$(2))
PACKAGES = $(strip $(call need,tor,tor) $(call need,qemu-system-x86_64,qemu-system-x86) \
	$(call need,qemu-aarch64,qemu-user) $(call need,gcc,gcc libc6-dev) $(call need,nft,nftables) $(call need,ip,iproute2) $(call need,busybox,busybox-static) \
	$(call need,libvirtd,libvirt-daemon libvirt-daemon-driver-qemu) $(call need,dnsmasq,dnsmasq-base) $(call need,iptables,iptables) \
	$(call need,virt-xml-validate,libvirt-clients) $(call need,xmllint,libxml2-utils) $(call need,apparmor_parser,apparmor) \
	$(call need,mmdebstrap,mmdebstrap) $(call need,qemu-img,qemu-utils) \
	$(call need,systemd-analyze,systemd) $(call need,mandoc,mandoc) $(call need,spin,spin) $(call need,zsh,zsh) $(call need,fish,fish) \
	$(if $(filter test e2e,$(MAKECMDGOALS)),$(call need,lintian,lintian)))

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build both static binaries into build/
	@mkdir -p build
	$(STATIC) -o build/guardring ./host-agent
	$(STATIC) -o build/guardring-guest ./guest-agent

.PHONY: cross
cross: ## build both binaries for every supported machine into build/ARCH/
	@set -e; for a in $(ARCHES); do mkdir -p build/$$a; \
	  GOARCH=$$a $(STATIC) -o build/$$a/guardring ./host-agent; \
	  GOARCH=$$a $(STATIC) -o build/$$a/guardring-guest ./guest-agent; done

.PHONY: deb
deb: build cross ## Debian packages of both for every supported machine, into build/deb/
	GO=$(GO) .ci/make-debs build/deb $(ARCHES)

.PHONY: setup
setup: ## install the Debian packages that tests and demo need (as root)
	@if [ -n "$(PACKAGES)" ]; then .ci/install-packages $(PACKAGES); fi

.PHONY: demo
demo: setup build ## the main job on real Tors; POLICY=observe changes nothing, HOLD=1 leaves it running, VM=1 has gateway VMs
	$(GO) run ./e2e/demo -policy $(POLICY) $(if $(HOLD),-hold) $(if $(VM),-vm) -out build/demo/report.json \
	  -guardring build/guardring -guest build/guardring-guest

.PHONY: test
test: setup build lint unit race fuzz cross arm64 e2e ## everything

.PHONY: unit
unit: ## unit tests: no root, network, Tor or QEMU
	$(GO) test -timeout 5m ./...

.PHONY: race
race: ## unit tests under the race detector
	@# Without it every child process that a test starts sleeps a second before it ends.
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(GO) test -race -timeout 15m ./...

.PHONY: arm64
arm64: ## the memory protocol's tests on emulated arm64: its assembly differs
	GOARCH=arm64 CGO_ENABLED=0 $(GO) test -timeout 8m -exec qemu-aarch64 ./shmproto -args -emulator qemu-aarch64

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (3s)
	@GO=$(GO) .ci/fuzz $(FUZZTIME)

.PHONY: lint
lint: ## format, vet, staticcheck, errorlint, ineffassign
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-ed (run gofmt -w): $$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags e2e ./...
	$(GO) vet -tags killpoints ./...
	GOARCH=arm64 $(GO) vet ./shmproto/...
	$(GO) tool -modfile=$(TOOLS) staticcheck -tags e2e ./...
	$(GO) tool -modfile=$(TOOLS) go-errorlint ./...
	$(GO) tool -modfile=$(TOOLS) ineffassign ./...

.PHONY: bench
bench: build ## the figures of docs/PERFORMANCE.md
	$(GO) test -run '^$$' -bench . -benchmem ./shmproto/... ./internal/... ./host-agent/... ./guest-agent/...

.PHONY: e2e
e2e: setup build deb ## scenarios on real Tors and a real QEMU
	@# One package at a time: each private network has the same loopback addresses.
	$(GO) test -tags e2e -count=1 -p 1 -timeout 60m ./e2e/... ./host-agent/server/... ./host-agent/domains/...

.PHONY: soak
soak: setup build ## real Tors, everything killed and stopped at random for SOAK (20m); make e2e has 3 minutes of it
	$(GO) test -tags e2e -count=1 -v -timeout 12h ./e2e/soak -for $(SOAK)
