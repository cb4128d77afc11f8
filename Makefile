# Everything runs in .venv, made with pip alone. `make` lists the targets.

PYTHON         ?= python3
VENV           ?= .venv
PIP_TORCH_ARGS ?=
PYTEST_ARGS    ?=
PYTEST_WORKERS ?= 2

BIN         := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Two workers of one thread each: most tests wait for a process to start. A file stays with one of them,
# since its tests may share a cluster or a server.
PYTEST      := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile

export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-rest services lint bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## make .venv and install llmpred into it

demo: $(VENV)/.installed  ## collect a few real runs and show what they scored
	$(BIN)/python jobs/collect_ground_truth.py
	$(BIN)/llmpred ledger ls

test: $(VENV)/.installed-dev  ## quick tests, 12 minutes at most on two cores
	$(PYTEST) -m "not slow and not cluster and not gpu" $(PYTEST_ARGS)

test-rest: $(VENV)/.installed-dev services  ## what test leaves out: slow tests and those that start services
	$(PYTEST) -m "(slow or cluster) and not gpu" $(PYTEST_ARGS)

test-all: test  ## every test that needs no GPU
	$(MAKE) test-rest

# Debian keeps the server's programs out of the PATH. Without root, sudo must not ask for a password.
services:  ## install what the tests of services need (PostgreSQL, Chromium) where it is missing
	@missing=; \
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || \
		missing="$$missing postgresql"; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		command -v google-chrome >/dev/null || missing="$$missing chromium"; \
	apt=apt-get; [ "$$(id -u)" = 0 ] || apt="sudo -n apt-get"; \
	for package in $$missing; do \
		if command -v apt-get >/dev/null && $$apt --version >/dev/null 2>&1; then \
			echo "Installing $$package."; \
			export DEBIAN_FRONTEND=noninteractive; \
			{ $$apt install -y -qq $$package || { $$apt update -qq && \
				$$apt install -y -qq $$package; }; } >/dev/null; \
		else false; fi || \
		echo "$$package is missing and cannot be installed from here; its tests are skipped." >&2; \
	done

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
