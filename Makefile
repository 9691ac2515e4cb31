# Needs Python 3.11 to 3.13 and make; everything else is installed into .venv, once.
# On Linux without a GPU a smaller torch: make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: run test check bench bench-page embedded-pair clean
.DEFAULT_GOAL := run

run: .venv/installed
	$(BIN)/python app.py

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks

bench-page: .venv/installed-dev
	$(BIN)/python -m benchmarks.embedded

embedded-pair: .venv/installed
	$(BIN)/python -m recipes.embedded_pair

clean:
	rm -rf .venv build dist

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo 'Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	$(PYTHON) -m venv .venv

# torch first: it is the large one, and it alone may come from another index.
.venv/torch: constraints.txt | .venv/bin/python
	@echo 'Setting up .venv: a few minutes the first time, then never again.'
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX) --extra-index-url https://pypi.org/simple) torch
	@touch $@

.venv/installed: pyproject.toml .venv/torch
	$(PIP) --editable .
	@touch $@

# dflash is z-lab's reference, for the parity tests only: without its own pins of torch and transformers.
.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps dflash==0.1.0
	@touch $@
