.PHONY: help run test browser pictures bench bench-pool bench-micro coherence coherence-table model fuzz fmt lint doc package api semver
.DEFAULT_GOAL := help
SECONDS ?= 60

help: ## list what make can do
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

run: ## start the service with a private PostgreSQL; options in ARGS="…"
	@scripts/setup run
	cargo run --release --locked -p cenote -- serve $(ARGS)

test: ## everything CI checks: format, lints, tests, documentation
	@scripts/setup test
	$(MAKE) --no-print-directory lint
	cargo test --workspace --locked --no-fail-fast
	$(MAKE) --no-print-directory doc

browser: ## the dashboard in Chromium: accessibility, restarts, trouble, keys; two minutes
	@scripts/setup browser
	cargo build --locked -p cenote
	cd browser && node --test --test-concurrency=1

pictures: ## take the pictures in docs/pictures again, of a private service under load
	@scripts/setup browser
	cargo build --release --locked -p cenote
	cd browser && CENOTE=../target/release/cenote node pictures.mjs

bench: ## the service beside others, as tables; a quarter of an hour, or parts of it: ARGS="--help"
	@scripts/setup test
	cargo build --release --locked -p cenote
	cargo build --release --locked -p cenote-rivals
	cargo run --release --locked -p cenote-bench --bin compare_services -- $(ARGS)

bench-pool: ## the pool beside five others, as a table; counts instructions where valgrind is installed
	cargo run --release --locked -p cenote-bench --bin compare_pools

bench-micro: ## the parts alone, by criterion
	cargo bench --locked -p cenote-bench -p cenote-ecosystem --bench '*'

coherence: ## every cache mode under every fault, more than an hour; less by ARGS="--mode strong --fault freeze-redis --seconds 20"
	@scripts/setup test
	cargo build --release --locked -p cenote
	cargo run --release --locked -p cenote-coherence -- $(ARGS)

coherence-table: ## the same for a cached table of a program's own; modes and faults by ARGS as above
	@scripts/setup test
	cargo build --release --locked -p cenote-coherence
	cargo run --release --locked -p cenote-coherence -- --program target/release/cached_table $(ARGS)

model: ## the searches of the cache's rules that are too long for `make test`
	cargo test --locked -p cenote-cache --test model -- --ignored

fuzz: ## every fuzz target for a minute; longer by SECONDS=600
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { \
		echo "make fuzz needs a nightly Rust and cargo-fuzz. Install them with this, then try again:" >&2; \
		echo "  rustup toolchain install nightly --profile minimal && cargo install --locked cargo-fuzz" >&2; \
		exit 1; }
	@set -e; for target in $$(cargo +nightly fuzz list); do \
		echo "$$target"; \
		cargo +nightly fuzz run "$$target" -- -max_total_time=$(SECONDS); \
	done

fmt: ## format the code
	cargo fmt --all

lint: ## check format, phrases, documents, imports and lints; a warning is an error
	cargo fmt --all --check
	scripts/check_words
	scripts/check_docs
	scripts/import_circles
	scripts/check_packages
	cargo clippy --workspace --all-targets --features cenote-examples/oracle --locked -- -D warnings

doc: ## build the documentation; a warning is an error
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

package: ## build every package as it would be published, and publish nothing
	cargo publish --workspace --dry-run --locked --allow-dirty

LIBRARIES = cenote-metrics cenote-secret cenote-trace cenote-pool cenote-postgres cenote-cache cenote-local

api: ## the public items of the libraries, in target/api; needs cargo-public-api and a nightly Rust
	@cargo public-api --version >/dev/null 2>&1 || { \
		echo "make api needs a nightly Rust and cargo-public-api. Install them with this, then try again:" >&2; \
		echo "  rustup toolchain install nightly --profile minimal && cargo install --locked cargo-public-api" >&2; \
		exit 1; }
	@mkdir -p target/api
	@set -e; for library in $(LIBRARIES); do \
		cargo public-api -p $$library --all-features -sss >target/api/$$library.txt; \
		echo "target/api/$$library.txt"; \
	done

semver: ## compare the libraries with their last release; needs cargo-semver-checks
	@cargo semver-checks --version >/dev/null 2>&1 || { \
		echo "make semver needs cargo-semver-checks. Install it with this, then try again:" >&2; \
		echo "  cargo install --locked cargo-semver-checks" >&2; \
		exit 1; }
	cargo semver-checks $(addprefix -p ,$(LIBRARIES))
