# Everything runs in .venv, made with pip alone. `make` lists the targets.

PYTHON         ?= python3
VENV           ?= .venv
PIP_TORCH_ARGS ?=
PYTEST_ARGS    ?=

BIN         := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-rest lint bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## make .venv and install llmpred into it

demo: $(VENV)/.installed  ## collect a few real runs and show what they scored
	$(BIN)/python jobs/collect_ground_truth.py
	$(BIN)/llmpred ledger ls

test: $(VENV)/.installed-dev  ## quick tests, 12 minutes at most on two cores
	$(BIN)/python -m pytest -m "not slow and not cluster and not gpu" $(PYTEST_ARGS)

test-rest: $(VENV)/.installed-dev  ## what test leaves out: slow tests and those that start services
	$(BIN)/python -m pytest -m "(slow or cluster) and not gpu" $(PYTEST_ARGS)

test-all: test  ## every test that needs no GPU
	$(MAKE) test-rest

lint: $(VENV)/.installed-dev  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev  ## run every benchmark
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

clean:  ## remove .venv, caches and build products
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: a second call does nothing until pyproject.toml or the pins change. Each rests on the
# one before it, so that `make -j` never runs two pips at once. Debian splits ensurepip from Python;
# where it is missing, the pip that is there fills the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "llmpred needs Python 3.11 or newer, but $(PYTHON) is" \
			"$$($(PYTHON) --version 2>/dev/null || echo missing)." \
			"Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null && $(PYTHON) -m venv $(VENV) || { \
		$(PYTHON) -m venv --without-pip --clear $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing llmpred into $(VENV): some minutes and about 2 GB, more with CUDA."
	$(PIP_INSTALL) $(PIP_TORCH_ARGS) torch
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[test,lint]'
	@touch $@
