# The data streamer. `make` alone lists what there is to make; README.md tells the story.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python that is new enough and can make a virtual environment. A shim that does not run is passed over.
PYTHON ?= $(shell for candidate in python3.14 python3.13 python3.12 python3.11 python3; do \
	if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo $$candidate; break; fi; done)
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
PYTEST := $(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder --timeout=600

# Where this is set, as in many containers, each start would compile Beam and all clients anew: 6 s instead of 2.
unexport PYTHONDONTWRITEBYTECODE

FEED := build/feed
OUTPUT := build/output
DEVICES ?= 400
SOURCES := pipelines schemas simulator templates transforms warehouse benchmarks examples tests setup.py

# uv installs in seconds what takes pip a minute. It reads no pip configuration: where it cannot be had or cannot reach
# the index, pip does the work. Arguments: what to install.
define install
if [ -x $(BIN)/uv ] && $(BIN)/uv pip install --quiet --python $(BIN)/python $(1); then :; \
else echo "uv could not install; installing with pip, which takes a minute"; \
$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1); fi
endef

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-18s %s\n", $$1, $$2 }'

$(VENV)/.made:
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.11 or newer that can make a virtual environment was found."; \
	echo "Install one (on Debian and Ubuntu: python3 and python3-venv), or name it: make run PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"{sys.executable} is Python {v[0]}.{v[1]}; 3.11 or newer is needed: make run PYTHON=/path/to/python3.12")'
	@echo "Making a virtual environment in $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) 2>/dev/null || true
	@touch $@

$(VENV)/.run: requirements/run.txt pyproject.toml | $(VENV)/.made
	@echo "Installing the pinned dependencies (requirements/run.txt)"
	@$(call install,--requirement requirements/run.txt)
	@$(call install,--no-deps --editable .)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/.made
	@echo "Installing the pinned dependencies of development (requirements/dev.txt)"
	@$(call install,--requirement requirements/dev.txt)
	@$(call install,--no-deps --editable .)
	@touch $@ $(VENV)/.run

.PHONY: install
install: $(VENV)/.dev  ## make the virtual environment with everything for development

.PHONY: run
run: $(VENV)/.run  ## simulate two days of a fleet, run the job on it with five destinations, show the outcome
	@rm -rf $(FEED) $(OUTPUT)
	@echo; echo "1. Two days of $(DEVICES) devices, with duplicates, malformed and late records → $(FEED)"
	@$(BIN)/data-streamer simulate --devices=$(DEVICES) --days=2 --seed=1 --duplicates=0.02 --malformed=0.01 --late=0.05 --output=$(FEED)
	@echo; echo "2. The job: five streams to five destinations, warehouse and report → $(OUTPUT)"
	@$(BIN)/python -m examples.demo --events='$(FEED)/events/*/*' --usage='$(FEED)/usage/*/*' --output=$(OUTPUT)
	@echo; echo "What next"
	@echo "  source $(BIN)/activate"
	@echo "  data-streamer audit $(OUTPUT)     # prove that nothing was lost"
	@echo "  data-streamer explain $$(find $(FEED)/events -name '*.ndjson' | sort | head -1) --streams=examples/demo/streams.yaml"
	@echo "  data-streamer --help              # and README.md"

LIVE_OUTPUT := build/live-output
RATE ?= 300
PRISM_VERSION := 2.77.0
PRISM := build/bin/prism

$(PRISM):
	@command -v go >/dev/null || { echo "Prism, Beam's engine for one machine, is built with Go, which is not installed: https://go.dev/doc/install" >&2; exit 1; }
	@echo "Building Prism with $$(go version): takes some minutes once"
	@GOBIN=$(CURDIR)/build/bin go install github.com/apache/beam/sdks/v2/go/cmd/prism@v$(PRISM_VERSION)

.PHONY: prism
prism: $(PRISM)  ## build Prism, the engine of live jobs on this machine (needs Go)

.PHONY: stream-demo
stream-demo: $(VENV)/.dev $(PRISM)  ## a live fleet, the live job on Prism, three streams; Ctrl-C stops it, and the ledger balances
	@$(BIN)/python -m examples.live_demo --rate=$(RATE) --output=$(LIVE_OUTPUT)

# Tests of live jobs need Prism: built where Go is, and else they are skipped, by name.
.PHONY: prism-for-tests
prism-for-tests:
	@[ -x $(PRISM) ] || command -v prism >/dev/null || timeout 600 $(MAKE) --no-print-directory $(PRISM) \
	|| echo "Without Prism the tests of live jobs are skipped, by name." >&2

.PHONY: test
test: $(VENV)/.dev prism-for-tests  ## run every test; builds Prism where Go is installed
	@$(PYTEST)

.PHONY: test-fast
test-fast: $(VENV)/.dev  ## run the tests of the inner loop (under 3 minutes)
	@$(PYTEST) -m "not slow" --hypothesis-profile=quick

.PHONY: test-destinations
test-destinations: $(VENV)/.dev  ## run the contract and the faults of all destinations, against their servers (part of test)
	@$(PYTEST) tests/destinations

.PHONY: lint
lint: $(VENV)/.dev  ## check style and layout
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

.PHONY: format
format: $(VENV)/.dev  ## lay the code out and mend what can be mended
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

.PHONY: types
types: $(VENV)/.dev  ## check the types
	@$(BIN)/mypy

.PHONY: bench
bench: $(VENV)/.dev  ## compare with DuckDB and a per-element Beam job on 3 million records
	@$(BIN)/python -m benchmarks --write

.PHONY: bench-full
bench-full: $(VENV)/.dev  ## the same, and memory and time at 30 million; says first what it needs
	@$(BIN)/python -m benchmarks --full --write

.PHONY: docs
docs: $(VENV)/.dev  ## write again what is derived from the code: docs, BigQuery schemas, template metadata
	@mkdir -p build
	@$(BIN)/python -m schemas.derive
	@$(BIN)/python -m schemas.catalogues
	@$(BIN)/python -m transforms.route.document
	@$(BIN)/python -m transforms.deliver.document
	@$(BIN)/python -m warehouse.queries > build/queries.md && mv build/queries.md docs/queries.md
	@$(BIN)/python -m templates.metadata

.PHONY: lock
lock: $(VENV)/.made  ## resolve the dependencies of pyproject.toml again
	@compile() { $(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" "$$@"; }; \
	ours() { compile pyproject.toml --python-version 3.11 "$$@"; }; \
	ours --extra dev -o requirements/dev.txt; \
	ours --constraint requirements/dev.txt --extra demo -o requirements/run.txt; \
	ours --constraint requirements/dev.txt --extra aws --extra datadog --extra gcp --extra kafka -o requirements/dataflow.txt; \
	compile requirements/bigquery-emulator.in --python-version 3.13 -o requirements/bigquery-emulator.txt

.PHONY: clean
clean:  ## remove what make made, also the virtual environment
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
