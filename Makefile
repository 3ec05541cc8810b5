# Podlab's one front door: people, .ci/run and the workflow all come through here.
# A line `target: … ## text` is what `make help` prints.

.DEFAULT_GOAL := help
SHELL := /bin/bash
# Prerequisites are steps in their order, also under `make -j`; cargo is parallel by itself.
.NOTPARALLEL:

# Where make runs as an ordinary user, cargo starts what it has built through ci/as-root, and only
# that: compilers never run as root, and target/ stays the property of whoever typed make.
ifneq ($(shell id -u),0)
AS_ROOT := --config 'target."cfg(all())".runner=["$(CURDIR)/ci/as-root"]'
endif
NETNS := --features netns

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 20
	@echo
	@echo '  SETUP=no      install nothing; name what is missing instead'

.PHONY: build
build: ## compile the library, the agent and the scenarios
	cargo build --workspace $(NETNS)

.PHONY: test
test: setup privileges build ## run everything: unit tests, doc tests, scenarios
	cargo test --workspace $(NETNS) --no-fail-fast $(AS_ROOT)

.PHONY: e2e
e2e: setup privileges build ## boot the seed's cluster, prove it, show what was proven
	cargo test -p podlab-scenarios $(NETNS) --test '*' --no-fail-fast $(AS_ROOT)
	@cargo run --quiet -p podlab-scenarios $(NETNS) --bin seed-tour $(AS_ROOT)

# Needs no root: the guest is one's own.
.PHONY: e2e-vm
e2e-vm: ## the scenarios in a virtual machine with a stock kernel (KERNEL=package or vmlinuz)
	@ci/setup vm
	@ci/vm/run

.PHONY: vm-matrix
vm-matrix: ## the same on several kernels, and what became of what as a table
	@ci/setup vm
	@ci/vm/matrix

.PHONY: vm-shell
vm-shell: ## a shell in that virtual machine
	@ci/setup vm
	@ci/vm/run shell

.PHONY: sabotage
sabotage: setup privileges build ## break the network in every known way; who notices, and what the trace says
	@cargo run --quiet -p podlab-scenarios $(NETNS) --bin sabotage $(AS_ROOT)

.PHONY: bench
bench: privileges ## measure, each figure against a reference of the same run (NAME=… for some)
	@ci/setup bench
	cargo build --release --workspace $(NETNS)
	@cargo run --release --quiet -p podlab-scenarios $(NETNS) --bin podlab-bench $(AS_ROOT) -- $(NAME)

.PHONY: lint
lint: ## formatting, clippy, docs, licences, architecture, scripts, the BPF object
	@ci/lint

.PHONY: bpf
bpf: ## rebuild the committed BPF object from its C source (needs clang-14)
	dataplane/bpf/build.sh

.PHONY: setup
setup: ## install the system packages that the tests need and the machine lacks
	@ci/setup

.PHONY: ci-setup
ci-setup: ## the same, and every checker that `make lint` can use
	@ci/setup lint

# Asked for before the build: nobody should wait for a compiler to hear that root is missing.
.PHONY: privileges
privileges:
	@ci/as-root --check
