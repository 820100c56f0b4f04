# make        the static binary
# make demo   set-up, build, and the main job running before your eyes
# make test   set-up and every test
# make check  what a commit has to pass: fmt, clippy, tests

TARGET ?= x86_64-unknown-linux-musl
BINARY := target/$(TARGET)/release/autoscaler
PYTHON := target/venv/bin/python

.PHONY: all build demo test check lint bench faults reference setup clean

all: build

build:
	@command -v rustup >/dev/null || { echo "autoscaler is built with Rust: install rustup first, see https://rustup.rs" >&2; exit 1; }
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	cargo build --release --locked --target $(TARGET)
	@echo "made $(BINARY)"

# Debian's haproxy and openssh, and a Python with moto, pytest and the AWS CLI under target/.
setup:
	@tests/setup

demo: setup build
	@$(PYTHON) tests/demo.py $(BINARY)

test: setup build
	cargo test --locked
	@# Once more for a test that fails: whole sites on a noisy machine miss a deadline now and then.
	AUTOSCALER=$(CURDIR)/$(BINARY) $(PYTHON) -m pytest --reruns 1 tests

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

check: lint test

bench: setup build
	@$(PYTHON) tests/bench.py $(BINARY)

# Every fault at every step of a scale-up, on real parts: some ten minutes; writes docs/faults.md.
faults: setup build
	@$(PYTHON) tests/faults.py $(BINARY)

# The manual page for those who read it on the web.
reference: setup
	mandoc -T markdown packaging/autoscaler.1 >docs/reference.md

clean:
	rm -rf target
