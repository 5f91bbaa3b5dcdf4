# Every target is a step of CI. All of them build in the release profile, so that libtorch's C++ wrapper is compiled once.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# CI adds --locked.
CARGO_FLAGS ?=
BIN := $(or $(CARGO_TARGET_DIR),target)/release
# More options of `docker build`, such as --build-arg RUST_IMAGE=...
IMAGE_FLAGS ?=
COMPOSE = $(if $(shell docker compose version 2>/dev/null),docker compose,docker-compose)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Fetch libtorch into the cache, once
	scripts/libtorch

.PHONY: build
build: setup ## Build the three programs
	cargo build --release --workspace $(CARGO_FLAGS)

.PHONY: train
train: build ## Train PPO on CartPole with two local actors
	$(BIN)/rookery train cartpole-ppo --actors 2

.PHONY: python-environments
python-environments: ## Install Gymnasium, the tested environments and TensorBoard's reader into .venv, once
	scripts/python-environments

.PHONY: python-loggers
python-loggers: ## Install an MLflow server into .venv-loggers, once
	scripts/python-environments loggers

# Tests that need Python run with these, unless other interpreters are named.
export ROOKERY_TEST_PYTHON ?= $(abspath .venv/bin/python)
export ROOKERY_TEST_MLFLOW ?= $(abspath .venv-loggers/bin/python)

.PHONY: test
test: build nextest python-environments python-loggers ## Run all tests; the summary is the last line
	cargo test --release --workspace --doc $(CARGO_FLAGS)
	cargo nextest run --release --workspace $(CARGO_FLAGS)

.PHONY: lint
lint: setup cargo-deny ## Check formatting, lints, documentation and dependencies
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps $(CARGO_FLAGS)
	cargo deny --log-level error check bans licenses sources
	$(MAKE) --no-print-directory advisories

.PHONY: advisories
advisories: cargo-deny ## Check dependencies for known vulnerabilities, where the database can be reached
	@if timeout 120 cargo deny --log-level off fetch db; then \
		cargo deny --log-level error check --disable-fetch advisories; \
	else \
		echo "advisories: SKIPPED, the advisory database cannot be reached from this machine"; \
	fi

.PHONY: smoke
smoke: build ## Run the README's commands
	PATH="$(abspath $(BIN)):$$PATH" scripts/smoke README.md

.PHONY: observability
observability: build ## Hold dashboards and alerts against what the programs export
	deploy/grafana/boards.py --check
	deploy/check-observability --programs $(BIN)

.PHONY: dashboards
dashboards: ## Write the dashboards that Grafana reads
	deploy/grafana/boards.py

.PHONY: kubernetes
kubernetes: build ## Check the objects for Kubernetes
	deploy/check-kubernetes --programs $(BIN)

.PHONY: compose-test
compose-test: build ## Run docker-compose.yml with the built programs, where there is a Docker engine
	deploy/test-compose --programs $(BIN)

.PHONY: images
images: ## Build the images of learner and actor from source, with BuildKit
	DOCKER_BUILDKIT=1 docker build $(IMAGE_FLAGS) --file deploy/docker/Dockerfile --target actor --tag rookery/actor .
	DOCKER_BUILDKIT=1 docker build $(IMAGE_FLAGS) --file deploy/docker/Dockerfile --target learner --tag rookery/learner .

.PHONY: images-cuda
images-cuda: ## Build the learner's image for a GPU
	DOCKER_BUILDKIT=1 docker build $(IMAGE_FLAGS) --file deploy/docker/Dockerfile --target learner-cuda --tag rookery/learner-cuda .

.PHONY: token
token: deploy/secrets/token ## Make the token that containers share, once

.PHONY: up
up: token ## Train with docker-compose.yml; what it shows is on http://localhost:3000
	$(COMPOSE) up

.PHONY: ci
ci: ## Do everything that CI does
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory smoke
	$(MAKE) --no-print-directory test
	$(MAKE) --no-print-directory observability
	$(MAKE) --no-print-directory kubernetes
	$(MAKE) --no-print-directory compose-test

.PHONY: bench
bench: setup ## Run the benchmarks
	cargo bench --workspace $(CARGO_FLAGS)

.PHONY: clean
clean: ## Remove what was built; the libtorch in the cache stays
	cargo clean
	rm -f third_party/libtorch

.PHONY: nextest
nextest:
	@command -v cargo-nextest >/dev/null || cargo install --locked cargo-nextest

.PHONY: cargo-deny
cargo-deny:
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny

# The containers' user must read it, who is nobody of this machine: the folder keeps others out.
deploy/secrets/token:
	mkdir -p -m 700 deploy/secrets
	head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > $@
	chmod 444 $@
