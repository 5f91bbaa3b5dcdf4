# Every target is a step of CI. All of them build in the release profile, so that libtorch's C++ wrapper is compiled once.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# CI adds --locked.
CARGO_FLAGS ?=
BIN := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Fetch libtorch into the cache, once
	scripts/libtorch

.PHONY: build
build: setup ## Build the three programs
	cargo build --release --workspace $(CARGO_FLAGS)

.PHONY: train
train: build ## Train PPO on CartPole with two local actors
	$(BIN)/rookery train cartpole-ppo --actors 2

.PHONY: test
test: build nextest ## Run all tests; the summary is the last line
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

.PHONY: ci
ci: ## Do everything that CI does
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory smoke
	$(MAKE) --no-print-directory test

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
