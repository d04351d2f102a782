.PHONY: help run test bench bench-pool bench-micro coherence fmt lint doc
.DEFAULT_GOAL := help

help: ## list what make can do
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

run: ## start the service with a private PostgreSQL; options in ARGS="…"
	@scripts/setup run
	cargo run --release --locked -p cenote -- serve $(ARGS)

test: ## everything CI checks: format, lints, tests, documentation
	@scripts/setup test
	$(MAKE) --no-print-directory lint
	cargo test --workspace --locked
	$(MAKE) --no-print-directory doc

bench: ## the service beside others, as tables; a quarter of an hour, or parts of it: ARGS="--help"
	@scripts/setup test
	cargo build --release --locked -p cenote
	cargo build --release --locked -p cenote-rivals
	cargo run --release --locked -p cenote-bench --bin compare_services -- $(ARGS)

bench-pool: ## the pool beside five others, as a table; counts instructions where valgrind is installed
	cargo run --release --locked -p cenote-bench --bin compare_pools

bench-micro: ## the parts alone, by criterion
	cargo bench --locked -p cenote-bench --bench '*'

coherence: ## every cache mode under every fault, more than an hour; less by ARGS="--mode strong --fault freeze-redis --seconds 20"
	@scripts/setup test
	cargo build --release --locked -p cenote
	cargo run --release --locked -p cenote-coherence -- $(ARGS)

fmt: ## format the code
	cargo fmt --all

lint: ## check format and lints; a warning is an error
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features cenote-examples/oracle --locked -- -D warnings

doc: ## build the documentation; a warning is an error
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
