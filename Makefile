# The commands that everybody shares. `make test` is what continuous integration runs.

.PHONY: try test crates machines bench lint setup rust go
.DEFAULT_GOAL := try

# Discovers this machine, registers it in a folder and shows the result: no cluster needed.
try: rust
	cargo run --package hatrack -- try
	@command -v hatrack >/dev/null || echo "\`hatrack\` is $${CARGO_TARGET_DIR:-target}/debug/hatrack here; \`cargo install --locked --path cli\` puts it on your PATH"

# Every test: formatting, lints, documentation, then the tests of all crates against a real control plane, beside them those in virtual
# machines. All is compiled before: neither waits for the other's compiler.
test: rust go setup lint
	cargo test --workspace --no-run
	cargo test --workspace --no-run --test machine
	$(MAKE) --jobs=2 --keep-going crates machines

crates: rust go setup
	tests/promises
	tests/dependencies
	tests/fixtures/record --check tests/fixtures/*.tree
	tests/nix/run
	cargo test --workspace --no-fail-fast

machines: rust go setup
	cargo test --workspace --test machine

# What hatrack costs, beside its targets. Root is needed for uevents.
bench: rust go setup
	cargo build --profile packaged --package hatrack-agent --package hatrack-operator
	ulimit -n "$$(ulimit -Hn)" && \
	HATRACK_AGENT="$${CARGO_TARGET_DIR:-target}/packaged/hatrack-agent" \
	HATRACK_OPERATOR="$${CARGO_TARGET_DIR:-target}/packaged/hatrack-operator" cargo run --release --package hatrack-bench

lint: rust
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

# What the tests start beside Rust and Go.
setup:
	@tests/setup

rust:
	@command -v cargo >/dev/null || { echo "Rust is missing: install 1.95 or newer with rustup (https://rustup.rs)" >&2; exit 1; }

# Go builds the control plane that the tests run against, once.
go:
	@command -v go >/dev/null || [ -n "$$KUBEBUILDER_ASSETS" ] || { \
		echo "Go is missing: install 1.26 or newer (https://go.dev/dl), or set KUBEBUILDER_ASSETS" >&2; exit 1; }
