.DEFAULT_GOAL := help
.PHONY: help run test torture fuzz lint fmt bench openapi

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run the gateway on 127.0.0.1:8000
	cargo run --release --locked

test: ## Run every test of the crates, dashboards, alerts and compose (installs what they need on Debian as root)
	@.ci/test

torture: ## Kill the gateway 200 times under load and look for losses (TORTURE_ROUNDS, TORTURE_SEED)
	TORTURE_ROUNDS=$${TORTURE_ROUNDS:-200} cargo test --release --locked -p gateway --test black_box torture -- --nocapture

fuzz: ## Look for inputs that break a parser, each target for FUZZ_SECONDS (30; FUZZ_TARGETS: which)
	@gateway/fuzz/run

lint: ## Check the format and let clippy look, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Format the code
	cargo fmt --all

bench: ## Run the benchmarks
	cargo bench --workspace --locked

openapi: ## Write openapi/gateway.json anew
	cargo run --quiet --locked -- openapi > openapi/gateway.json.new
	mv openapi/gateway.json.new openapi/gateway.json
