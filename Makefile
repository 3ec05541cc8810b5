# Podlab's one front door: people, .ci/run and the workflow all come through here.
# A line `target: … ## text` is what `make help` prints.

.DEFAULT_GOAL := help
SHELL := /bin/bash
# Prerequisites are steps in their order, also under `make -j`; cargo is parallel by itself.
.NOTPARALLEL:

# `sudo make`: sudo has a PATH of its own, in which the user's toolchain is missing.
ifneq ($(SUDO_UID),)
export PATH := $(PATH):$(shell getent passwd $(SUDO_UID) | cut -d: -f6)/.cargo/bin
endif
NETNS := --features netns
comma := ,
# In a folder of this run alone: what an older one has left was compared then.
CAPTURES := $(CURDIR)/target/podlab/all-captures

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 20
	@echo
	@echo '  SETUP=no          install nothing; name what is missing instead'
	@echo '  PRIVILEGE=none    never use sudo; PRIVILEGE=sudo use it, also where it is not needed'

.PHONY: build
# With a test among them: cargo then chooses the features of dependencies as it does for all tests,
# and nothing is compiled twice.
build: ## compile the library, the agent and the scenarios
	@ci/as-user cargo build --workspace $(NETNS) --bins --test seed

.PHONY: test
test: export PODLAB_JUNIT := $(CURDIR)/target/junit
test: export PODLAB_CAPTURES := $(CAPTURES)
test: setup privileges build ## run everything: unit tests, doc tests, scenarios; then tshark over all captures
	@ci/as-user rm -rf $(CAPTURES) $(PODLAB_JUNIT)
	@ci/cargo test --workspace $(NETNS) --no-fail-fast
	@ci/cargo built compare-captures $(CAPTURES)

.PHONY: e2e
e2e: setup privileges build ## boot the seed's cluster, prove it, show what was proven
	@ci/cargo test --workspace $(NETNS) --test seed
	@ci/cargo built seed-tour

# What an ordinary user cannot have: to load BPF programs, to set how long a device collects what it
# receives, to hear why the kernel drops a packet, to make control groups. All else has to work for
# them too.
ROOTLESS_SKIPS := encap-ebpf,bpf,napi,drop-reasons,cgroup
# Unit tests have no named skips: these, which have the kernel run a BPF program, are left out, and
# one that makes a TUN device where its file is only root's (udev, if there is one, opens it to all).
ROOTLESS_LEAVES_OUT := --skip encap::ebpf::program::verdicts \
  $(if $(shell find /dev/net/tun -perm -o=rw 2>/dev/null),,--skip filters_work_without_link_header)
.PHONY: e2e-rootless
e2e-rootless: export PODLAB_ALLOW_SKIP := $(if $(PODLAB_ALLOW_SKIP),$(PODLAB_ALLOW_SKIP)$(comma))$(ROOTLESS_SKIPS)
e2e-rootless: export PRIVILEGE := none
e2e-rootless: export PODLAB_JUNIT := $(CURDIR)/target/junit-rootless
e2e-rootless: setup build ## all tests as an ordinary user without sudo; as root: as user nobody
	@ci/as-user rm -rf $(PODLAB_JUNIT)
	@ci/as-user install --directory --mode=1777 $(PODLAB_JUNIT)
	@ci/rootless test --workspace $(NETNS) --no-fail-fast -- $(ROOTLESS_LEAVES_OUT)
	@ci/rootless built seed-tour

# Ubuntu takes from ordinary users what user namespaces are good for; elsewhere there is no such
# switch, and nothing to do.
.PHONY: allow-userns
allow-userns: ## let ordinary users make namespaces, where AppArmor forbids it; until the next boot
	@ci/allow-userns

# Needs no root: the guest is one's own.
.PHONY: e2e-vm
e2e-vm: ## the scenarios in a virtual machine with a stock kernel (KERNEL=package or vmlinuz)
	@ci/setup vm
	@ci/as-user ci/vm/run

.PHONY: vm-matrix
vm-matrix: ## the same on several kernels, and what became of what as a table
	@ci/setup vm
	@ci/as-user ci/vm/matrix

.PHONY: annotations
annotations: ## the failures of the last runs in GitHub's words
	@ci/as-user cargo run --quiet -p podlab-scenarios --bin suite-results -- annotate \
	  $(wildcard target/log/*.log) target/junit target/junit-rootless target/vm/*/results/junit

.PHONY: vm-shell
vm-shell: ## a shell in that virtual machine
	@ci/setup vm
	@ci/as-user ci/vm/run shell

.PHONY: captures
captures: export PODLAB_CAPTURES := $(CAPTURES)
captures: setup privileges build ## the scenarios alone, and then every packet they have captured: do we read what tshark reads? (NAME=… for one suite)
	@ci/as-user rm -rf $(CAPTURES)
	@ci/cargo test -p podlab-scenarios $(NETNS) --test '$(or $(NAME),*)' --no-fail-fast
	@ci/cargo built compare-captures $(CAPTURES)

.PHONY: sabotage
sabotage: setup privileges build ## break the network in every known way; who notices, and what the trace says
	@ci/cargo run --quiet -p podlab-scenarios $(NETNS) --bin sabotage

# SEED=… is the first seed, N=… how many there are, NETEM=yes|no whether there are faults that need
# it, ENCAP=… the agents' encapsulation. One that fails tells how to repeat it.
.PHONY: chaos
chaos: N = 100
chaos: SEED ?= 1
chaos: setup privileges build ## 100 clusters go through random faults, each by a seed of its own
	@ci/cargo run --quiet -p podlab-scenarios $(NETNS) --bin chaos -- --seed $(SEED) --count $(N) \
	  $(if $(NETEM),--netem $(NETEM)) $(if $(ENCAP),--encapsulation $(ENCAP))

# A scenario each in its own process; `make e2e` runs them in threads. N=… SEED=… NAME=…
N ?= 1000
.PHONY: stress
stress: setup privileges build ## scenarios in random order and parallel, 1,000 times; how many flaked
	@ci/stress --executions $(N) $(if $(SEED),--seed $(SEED)) $(if $(NAME),--name $(NAME))

# Named skips count as passed here: nextest has no word for them. NAME=… for one suite
.PHONY: nextest
nextest: export PATH := $(PATH):$(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/tools/bin
nextest: setup privileges build ## all tests by cargo-nextest: each in a process, and a sandbox, of its own
	@ci/setup nextest
	@ci/cargo nextest run --workspace $(NETNS) $(if $(NAME),--test $(NAME)) --no-fail-fast \
	  --test-threads $$((4 * $$(nproc)))

.PHONY: leaks
leaks: export PODLAB_KILLS := 200
leaks: setup privileges build ## kill 200 runs at random instants and look for what stays
	@ci/as-user cargo build -p podlab-scenarios $(NETNS) --tests
	@ci/cargo test -p podlab-scenarios $(NETNS) --test host -- --nocapture kill

.PHONY: bench
bench: privileges ## measure, each figure against a reference of the same run (NAME=… for some)
	@ci/setup bench
	@ci/as-user cargo build --release --workspace $(NETNS)
	@ci/cargo run --release --quiet -p podlab-scenarios $(NETNS) --bin podlab-bench -- $(NAME)

.PHONY: lint
lint: ## formatting, clippy, docs, licences, architecture, scripts, the BPF object
	@ci/as-user ci/lint

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
	@ci/privileges >/dev/null
