# Every target sets itself up: a virtual environment in .venv, rebuilt only when pyproject.toml changes.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := transferset curate distill service
SOURCES := $(PACKAGES) tests benchmarks

.PHONY: help install test lint format demo soak clean

help:
	@echo "make install   virtual environment in $(VENV) with everything for development"
	@echo "make demo      the whole pipeline on photographs that come with a package, without a network"
	@echo "make test      ruff, mypy, import-linter and the tests"
	@echo "make lint      ruff, mypy and import-linter only"
	@echo "make format    let ruff format and fix what it can"
	@echo "make soak      random kills, repeated: long"
	@echo "make clean     remove caches and builds (not $(VENV))"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=…")'
	@echo "installing into $(VENV) (once; some minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[openvino,demo,dev]'
	@touch $@

install: $(STAMP)

# Runs every check, then names those that failed.
define check
	@failed=(); \
	run() { echo "== $$1"; "$${@:2}" || failed+=("$$1"); }; \
	run "ruff check" $(BIN)/ruff check $(SOURCES); \
	run "ruff format" $(BIN)/ruff format --check $(SOURCES); \
	run "mypy" $(BIN)/mypy; \
	run "import-linter" $(BIN)/lint-imports --no-cache; \
	$(1) \
	if (( $${#failed[@]} )); then printf 'FAILED: %s\n' "$${failed[@]}" >&2; exit 1; fi
endef

test: $(STAMP)
	$(call check,run "pytest" $(BIN)/python -m pytest -m "not soak" -n $(TEST_PROCESSES) --dist loadfile --durations=10;)

lint: $(STAMP)
	$(call check,)

format: $(STAMP)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

demo: $(STAMP)
	@$(BIN)/python benchmarks/demo.py

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak -s --timeout=0

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
