# Commands for users: `make demo`, `make test`. Everything is installed into .venv and target/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MUTANTS := target/tools/bin/cargo-mutants
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')
.DELETE_ON_ERROR:

.PHONY: help demo test soak conformance asyncio-conformance lint rust-test python-test mutants docs docs-serve bench \
    instructions trained picture wheel wheels clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 22

demo: $(VENV)/built ## serve examples/plaintext.py on :8080; FOR=5 ends by itself after 5 seconds
	@# Job control gives the server the terminal: Ctrl-C ends it, and make sees its exit status instead of a signal.
	@if [ -t 0 ]; then set -m; fi; $(BIN)/python examples/plaintext.py $(if $(FOR),--for $(FOR))

test: lint docs rust-test python-test ## everything that CI checks

soak: $(VENV)/built ## random cases for FUZZ=300 seconds each, thread models, the fault suite SOAK=10 times as long
	FUZZ=$(FUZZ) SOAK=$(SOAK) tests/soak

conformance: $(VENV)/built ## the Autobahn test suite, which needs Python 2.7; for docs/conformance.md (ARGS=--help for more)
	$(BIN)/python tests/conformance/run.py $(ARGS)

asyncio-conformance: $(VENV)/built ## CPython's tests of asyncio on our loop, by the interpreters PYTHONS="python3.11 ..."; for docs/conformance.md
	$(BIN)/python tests/conformance/cpython.py $(if $(PYTHONS),--pythons $(PYTHONS)) $(ARGS)

lint: $(VENV)/built ## formatters, linters, type checks; warnings are errors
	cargo fmt --check
	cargo clippy --all-targets --no-default-features -- -D warnings
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python cargo clippy --all-targets -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/python -m mypy.stubtest goev

# Without the Python face: the core has to work alone, and links without libpython.
rust-test: ## the core, driven by Rust handlers
	cargo test --no-default-features
	cargo test --no-default-features --features tls --lib -- tls:: ::secure::

python-test: $(VENV)/built wheel ## the Python face, the examples, the README and the wheel
	$(BIN)/python -m pytest

# Few random cases, since they run for each mutant: a unit test has to notice it, too.
mutants: $(MUTANTS) ## change the code in one place at a time: do the tests notice? BASE=origin/main for new code only (ARGS=--help for more)
	$(if $(BASE),git diff --merge-base $(BASE) -- src >target/mutants.diff)
	PROPTEST_CASES=32 $(MUTANTS) mutants --output target $(if $(BASE),--in-diff=target/mutants.diff) $(ARGS)

docs: $(VENV)/built $(VENV)/documenting ## build the site of the documentation into target/site/; warnings are errors
	$(BIN)/python tools/site

docs-serve: docs ## show the site on http://127.0.0.1:8000 (PORT=8001 for another port)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory target/site $(or $(PORT),8000)

bench: $(VENV)/trained ## measure against other servers; writes docs/benchmarks.md (ARGS=--help for more)
	$(BIN)/python benches/bench.py $(ARGS)

instructions: $(VENV)/built ## count instructions per request by callgrind (ARGS=--help for more)
	$(BIN)/python benches/instructions.py $(ARGS)

trained: $(VENV)/trained ## build goev into .venv as its wheels are built: by a profile of what users do (see tools/wheels/training.py)

picture: ## draw docs/architecture.svg from tools/picture.py
	$(PYTHON) tools/picture.py

wheel: dist/.built ## build a wheel into dist/

wheels: $(VENV)/releasing ## build, audit and try all wheels and the sdist of a release into wheelhouse/; see docs/releasing.md (ARGS=--help for more)
	$(BIN)/python tools/wheels $(ARGS)

clean: ## remove what was built
	rm -rf $(VENV) target dist wheelhouse benches/.venv benches/.build

$(MUTANTS):
	cargo install --locked --root target/tools cargo-mutants --version 27.1.0

$(VENV)/installed: requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "goev needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

$(VENV)/releasing: $(VENV)/installed requirements-release.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-release.txt
	@touch $@

$(VENV)/documenting: $(VENV)/installed requirements-docs.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-docs.txt
	@touch $@

$(VENV)/built: $(VENV)/installed $(SOURCES)
	@rm -f $(VENV)/trained
	$(BIN)/maturin develop --release --locked
	@touch $@

$(VENV)/trained: $(VENV)/built
	$(BIN)/python tools/wheels/training.py
	@touch $@

dist/.built: $(VENV)/installed $(SOURCES) $(wildcard python/goev/*)
	rm -rf dist
	$(BIN)/maturin build --release --locked --out dist --interpreter $(BIN)/python
	@touch $@
