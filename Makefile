# towpath: what people and continuous integration run. `make help` lists the targets.
#
# Build caches live outside the work tree. The cargo folder is keyed by compiler, so that a new compiler
# starts clean; cargo itself keys everything below by sources and flags.

SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/towpath
COMPILER := $(shell rustc -vV 2>/dev/null | sha256sum | cut -c1-12)
export CARGO_TARGET_DIR ?= $(CACHE)/target-$(COMPILER)
BIN := $(CARGO_TARGET_DIR)/release
export TOWPATH_BIN := $(BIN)/towpath
# The CNI plugin is built a second time, static and small, as it is installed (ADR 0010).
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
PLUGIN := $(CARGO_TARGET_DIR)/$(HOST)/plugin
export TOWPATH_CNI := $(PLUGIN)/towpath-cni

# Labs make network namespaces and need root. Building does not: with sudo only the programs run as root.
ifneq ($(shell id -u),0)
ROOT := sudo --preserve-env=HOME,PATH,XDG_CACHE_HOME,TOWPATH_BIN,TOWPATH_CNI,TOWPATH_IMAGE,TOWPATH_TOOLS,TOWPATH_CLUSTER,TOWPATH_CHAOS_FIRST,TOWPATH_CHAOS_SEEDS,TOWPATH_OUTAGE,TOWPATH_PODS,TOWPATH_INTEROP_RESULTS
export CARGO_TARGET_$(shell tr 'a-z-' 'A-Z_' <<<'$(HOST)')_RUNNER := $(ROOT)
endif

.PHONY: help setup setup-demo build plugin floor image-files image demo test unit labs test-chaos cluster cluster-down test-cluster conformance interop lint doc bench bench-bgp bench-cni fuzz-smoke crds ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## fetch or build what the tests need: tools, other daemons unpacked beside the system, containerd 2, Kubernetes, helm
	@tests/setup/packages.sh
	@tests/setup/containerd.sh
	@tests/setup/packaging.sh
	@tests/setup/cluster.sh

setup-demo: # the demo needs ip(8), nothing else
	@command -v ip >/dev/null || PATH=$$PATH:/usr/sbin:/sbin command -v ip >/dev/null || \
	  { apt-get --version >/dev/null && $(ROOT) apt-get -qq update && $(ROOT) apt-get -qq install -y iproute2; }

build: plugin ## towpath, bgp-speaker and the test programs, as people run them
	cargo build --release --locked --workspace --exclude towpath-image --bins

# Flags in RUSTFLAGS reach what is built for --target only, so build scripts and macros stay as they are.
STATIC := --profile plugin --locked --target $(HOST)
plugin floor: export RUSTFLAGS := $(RUSTFLAGS) -C target-feature=+crt-static -C relocation-model=static
plugin: ## towpath-cni as it is installed: one static file
	cargo build $(STATIC) -p towpath-cni --bin towpath-cni

floor: plugin # what the plugin is measured against, built as it is
	cargo build $(STATIC) -p towpath-floor --bins

IMAGE := $(CARGO_TARGET_DIR)/image
export TOWPATH_IMAGE := $(IMAGE)/towpath-image.tar

# The daemon's own file is linked statically; all it is made of is the release build.
image-files: plugin # the two programs of the image, in the folder that a Dockerfile copies from
	cargo rustc --release --locked -p towpath-image --bin towpath-static -- \
	  -C target-feature=+crt-static -C relocation-model=static -C strip=symbols
	mkdir -p $(IMAGE)/files
	install -m 755 $(BIN)/towpath-static $(IMAGE)/files/towpath
	install -m 755 $(TOWPATH_CNI) $(IMAGE)/files/towpath-cni

image: image-files ## towpath-image.tar: the container image, made without a container engine
	deploy/image/archive.sh $(IMAGE)/files/towpath $(IMAGE)/files/towpath-cni $(TOWPATH_IMAGE)

demo: setup-demo plugin ## two racks on this machine: sessions, routes, traffic, a dying switch (KEEP=1 leaves it up)
	cargo build --release --locked -p route-agent -p towpath-tests --bin towpath --bin towpath-demo
	$(ROOT) $(BIN)/towpath-demo $(if $(KEEP),--keep)

test: setup lint unit labs ## everything a change must pass

unit: plugin ## tables, properties, virtual clocks, and single parts on a real kernel
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" && \
	  cargo test --release --locked --workspace --exclude towpath-tests

# Rows of the interoperability matrix wait most of the time and share nothing; all others may use the machine.
LABS := $(filter-out interop_%,$(basename $(notdir $(wildcard tests/tests/*.rs))))

labs: setup build image ## real daemons and a real kernel in namespaces
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" TOWPATH_CLUSTER="$$(tests/setup/cluster.sh --where)" && \
	  cargo test --release --locked -p towpath-tests --test 'interop_*' -- --test-threads=4 && \
	  cargo test --release --locked -p towpath-tests --lib --bins $(LABS:%=--test %) -- --test-threads=1 \
	    --skip its_story_holds --skip every_failure_is_felt && \
	  cargo test --release --locked -p towpath-tests --test examples -- --test-threads=4

test-chaos: setup build ## the chaos example with 20 seeds in a row; a failing one is named
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" TOWPATH_CHAOS_FIRST=$(or $(FIRST),1) TOWPATH_CHAOS_SEEDS=$(or $(SEEDS),20) && \
	  cargo test --release --locked -p towpath-tests --test chaos -- --nocapture

cluster: setup build image ## a real Kubernetes of three nodes in namespaces, with towpath; stays up until cluster-down
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" TOWPATH_CLUSTER="$$(tests/setup/cluster.sh --where)" && \
	  $(ROOT) $(BIN)/towpath-cluster up $(CLUSTER)

cluster-down: ## takes it down; nothing of it stays
	$(ROOT) $(BIN)/towpath-cluster down

test-cluster: setup build image ## everything about clusters: other families and proxies, long outages (OUTAGE=600 seconds), many pods (PODS=1000)
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" TOWPATH_CLUSTER="$$(tests/setup/cluster.sh --where)" \
	  TOWPATH_OUTAGE=$(or $(OUTAGE),600) TOWPATH_PODS=$(or $(PODS),1000) && \
	  cargo test --release --locked -p towpath-tests --test 'kube_*' -- --test-threads=1 --nocapture --include-ignored

# NETWORK='nftables iptables reference': only these; outcomes of the others are kept from their last run.
conformance: setup build image ## the upstream end-to-end tests of pod networks, with the reference plugins too; writes docs/conformance.md
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" TOWPATH_CLUSTER="$$(tests/setup/cluster.sh --e2e)" && \
	  $(ROOT) $(BIN)/towpath-conformance $(NETWORK:%=--only %) --results $(CACHE)/conformance \
	    --write docs/conformance.md

interop: setup build ## every cell of the interoperability matrix; writes docs/interop.md when all are as declared
	rm -rf $(CACHE)/interop && mkdir -p $(CACHE)/interop
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" TOWPATH_INTEROP_RESULTS=$(CACHE)/interop && \
	  cargo test --release --locked -p towpath-tests --no-fail-fast --test 'interop_*' -- --test-threads=4; \
	  $(ROOT) $(BIN)/interop-table $(CACHE)/interop docs/interop.md

lint: ## formatting, clippy and rustdoc, warnings denied
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --document-private-items --quiet

doc: ## API documentation
	cargo doc --release --locked --workspace --no-deps

bench: bench-bgp ## all benchmarks of routing: bench-bgp, the stories' failures, labs; writes docs/benchmarks.md
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" && \
	  $(ROOT) $(BIN)/bench-failover --write docs/benchmarks.md && \
	  $(ROOT) tests/lab-times.sh 10 --write docs/benchmarks.md

bench-bgp: setup build ## towpath beside FRR, BIRD, GoBGP, OpenBGPD and the kernel in one run (ARGS="--rounds 5"); writes docs/benchmarks.md
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" && \
	  $(ROOT) $(BIN)/bench-bgp --write docs/benchmarks.md $(ARGS)

bench-cni: setup build floor ## the CNI plugin beside the reference plugins in one run; writes docs/benchmarks.md
	export TOWPATH_TOOLS="$$(tests/setup/packages.sh)" && \
	  $(ROOT) $(BIN)/bench-cni --write docs/benchmarks.md

fuzz-smoke: ## each fuzz target for a minute (needs a nightly compiler)
	CARGO_TARGET_DIR=$(CACHE)/fuzz fuzz/smoke.sh 60

crds: ## regenerate deploy/crds.yaml and its copies from api/
	cargo run --release --locked -p towpath-api --bin crdgen > deploy/crds.yaml.new
	mv deploy/crds.yaml.new deploy/crds.yaml
	cp deploy/crds.yaml deploy/base/crds.yaml
	cp deploy/crds.yaml deploy/helm/towpath/files/crds.yaml
	for kind in NetworkConfig BGPPeer Advertisement IPPool NodeNetwork; do \
	  cargo run --release --locked -p towpath-api --bin crdgen $$kind > api/src/schemas/$$kind.json.new && \
	  mv api/src/schemas/$$kind.json.new api/src/schemas/$$kind.json || exit; done

ci: test ## what continuous integration runs
