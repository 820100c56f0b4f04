# make            the static binary
# make demo       set-up, build, and the main job running before your eyes
# make test       set-up and every test
# make check      all that has to pass: fmt, clippy, every test
# make quick      before each commit: the same without whole sites, on a debug build, with fewer seeds
# make install    the binary, the manual page, completions, units (PREFIX, DESTDIR); make uninstall
# make dist, deb, rpm   a tarball, a Debian package, an RPM, and their checksums, in target/dist
# make reproduce  builds it all once more, elsewhere, and compares the bytes
# make static TARGET=aarch64-unknown-linux-musl    for another processor, with zig as the linker
# make test-aarch64                                that binary and the tests, under qemu

TARGET ?= x86_64-unknown-linux-musl
BINARY := target/$(TARGET)/release/autoscaler
PYTHON := target/venv/bin/python
# A script under tests/ finds what the others offer, as a test does.
nothing :=
SCRIPT = PYTHONPATH=$(subst $(nothing) ,:,$(addprefix $(CURDIR)/,$(shell sed -n 's/^pythonpath = //p' pytest.ini))) $(PYTHON)
PREFIX ?= /usr/local
DIST := target/dist
# No path of this machine is in the binary, so that it is the same bytes wherever it is built.
REMAP = --config 'target.$(TARGET).rustflags=["--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo"]'

.PHONY: all build static demo test units sites quick commands test-aarch64 check lint bench soak faults packages setup install uninstall dist deb rpm reproduce reference policies clean

all: build

build:
	@command -v rustup >/dev/null || { echo "autoscaler is built with Rust: install rustup first, see https://rustup.rs" >&2; exit 1; }
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	cargo build --release --locked --target $(TARGET) $(REMAP)
	@echo "made $(BINARY)"

# With zig's linker where gcc has none for the target; on x86_64, the same as `make`.
static:
ifeq ($(TARGET),x86_64-unknown-linux-musl)
	@$(MAKE) build
else
	@command -v rustup >/dev/null || { echo "autoscaler is built with Rust: install rustup first, see https://rustup.rs" >&2; exit 1; }
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	@tests/setup zig
	PATH="$(CURDIR)/target/zig/bin:$$PATH" cargo zigbuild --release --locked --target $(TARGET) $(REMAP)
	@echo "made $(BINARY)"
endif

# The build is a user's, the installation root's: it builds nothing.
install:
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) packaging/install $(BINARY)

uninstall:
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) packaging/install --uninstall

dist: static
	@packaging/dist tar $(TARGET) $(BINARY) $(DIST)
	@cat $(DIST)/SHA256SUMS

deb: static
	@packaging/dist deb $(TARGET) $(BINARY) $(DIST)
	@cat $(DIST)/SHA256SUMS

rpm: static
	@packaging/dist rpm $(TARGET) $(BINARY) $(DIST)
	@cat $(DIST)/SHA256SUMS

reproduce: dist deb
	@packaging/reproduce $(TARGET) $(DIST)

packages:
	@tests/setup packages

# The Debian packages that the demo and the tests need, and a Python with moto, pytest and the AWS CLI under target/.
setup:
	@tests/setup

demo: setup build
	@$(SCRIPT) tests/site/demo.py $(BINARY)

# Tests mostly wait: this many at once keep two processors busy. Once more for one that fails, which says what it missed.
WORKERS ?= 8
PYTEST = $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal --reruns 1 --rerun-show-tracebacks tests
# For this machine's own C library, whose allocator is twice as fast for threads as musl's.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
SEEDS ?= 100000

test: packages
	@$(MAKE) --no-print-directory -j3 units sites

# A failing seed comes with the command that replays it. In the time that the tests beside it leave. The property tests
# draw the same inputs each time, so that no change fails for a fault of another: PROPTEST_RNG_SEED=$RANDOM looks further.
export PROPTEST_RNG_SEED ?= 1
units: PROFILE ?= --profile simulation --target $(HOST)
units:
	@mkdir -p target
	@echo "unit tests and $(SEEDS) seeds: see target/units.log"
	@SEEDS=$(SEEDS) nice -n 19 cargo test --locked $(PROFILE) >target/units.log 2>&1 || { cat target/units.log; exit 1; }
	@grep "^test result" target/units.log

sites: setup build
	AUTOSCALER=$(CURDIR)/$(BINARY) $(PYTEST)

quick: setup lint
	cargo build --locked
	@$(MAKE) --no-print-directory -j2 units commands SEEDS=1000 PROFILE=

commands:
	AUTOSCALER=$(CURDIR)/target/$(TARGET)/debug/autoscaler $(PYTEST) --without-sites -m "not native"

# All but what looks into the process itself, which is qemu here. A test that fails is run again: everything is slower.
test-aarch64: setup
	@$(MAKE) static TARGET=aarch64-unknown-linux-musl
	@tests/emulated qemu-aarch64 target/aarch64-unknown-linux-musl/release/autoscaler target/qemu-aarch64
	AUTOSCALER=$(CURDIR)/target/aarch64-unknown-linux-musl/release/autoscaler $(PYTHON) -m pytest tests/commands/test_binary.py \
		-k "static or small and not daemon"
	AUTOSCALER=$(CURDIR)/target/qemu-aarch64/autoscaler $(PYTHON) -m pytest --reruns 2 -m "not native" tests \
		--ignore tests/lab/test_lab.py --ignore tests/lab/test_lab_guard.py --ignore tests/packaging/test_dependencies.py

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

check: lint test

bench: build
	@tests/setup bench
	@$(SCRIPT) tests/bench/bench.py $(BINARY)

# A thousand nodes on one master, two hundred of them by real tunnels: nothing lost, nothing growing.
MINUTES ?= 10
soak: setup build
	@$(SCRIPT) tests/master/soak.py $(BINARY) $(MINUTES)

# Every fault at every step of a scale-up, and troubles of a site at rest, on real parts: some ten minutes; writes docs/faults.md.
faults: setup build
	@$(SCRIPT) tests/site/faults.py $(BINARY)

# The manual page for those who read it on the web.
reference: setup
	mandoc -T markdown packaging/autoscaler.1 >docs/reference.md

clean:
	rm -rf target

# The policy beside those that people run instead, on the same loads: writes docs/policies.md.
policies: build
	@$(SCRIPT) tests/commands/policies.py $(BINARY)
