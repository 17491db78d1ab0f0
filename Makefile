# One line a target; `make` alone prints them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip
# uv works for the interpreter that it is given; it must never fetch another one.
UV := env -u PYTHONDONTWRITEBYTECODE -u VIRTUAL_ENV UV_PYTHON_DOWNLOADS=never
# The notebooks' kernels and the checks run side by side: one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# Debian's packages: the sandbox of grading, and a database server that a test starts.
SYSTEM := bubblewrap libseccomp2 postgresql

.PHONY: help install system lock demo lab bench test lint types built verify test-colab test-pytest clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

install: .venv/.installed ## the project's own .venv, from requirements.lock

# uv comes from the lock too: pip checks its hash, uv checks all the others.
.venv/.installed: requirements.lock pyproject.toml autograder/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make install: needs Python 3.11 or later, and $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>/dev/null || echo not there); try make PYTHON=python3.12 install" >&2; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || \
	  { echo "make install: $(PYTHON) has no pip; install it (Debian: python3-pip)" >&2; exit 1; }
	@echo "Installing into .venv (several GB with torch; minutes on the first machine, then seconds)"
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  $(PYTHON) -m venv --clear --without-pip .venv
	@tmp="$$(mktemp -d)"; trap 'rm -rf "$$tmp"' EXIT; \
	  awk '/^[^ ]/ {keep = /^uv==/} keep' requirements.lock >"$$tmp/uv.txt"; \
	  $(PIP) install --quiet --no-deps --require-hashes --target "$$tmp/uv" -r "$$tmp/uv.txt"; \
	  $(UV) "$$tmp/uv/bin/uv" pip sync --quiet --python $(BIN)/python --require-hashes \
	    --compile-bytecode requirements.lock
	@$(UV) $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
	  -e . -e ./autograder
	@touch $@

system: ## Debian's packages for the sandbox and the tests; installed if this is root's shell, else named
	@missing=""; for name in $(SYSTEM); do \
	  dpkg-query -W -f='$${Status}' "$$name" 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$name"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing$$missing"; export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else echo "make system: not found:$$missing (Debian, Ubuntu: sudo apt-get install$$missing)" >&2; fi

lock: install ## recompile requirements.lock and tests/colab/*.lock (UPGRADE=1: newest versions)
	@compile() { $(UV) $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	    --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) "$$@"; }; \
	  compile --extra workshop pyproject.toml -o requirements.lock; \
	  for name in locked newest; do \
	    compile tests/colab/$$name.in -o tests/colab/$$name.lock; done

demo: install system ## a class of submissions made, graded, reported and compared with what each earned
	@$(BIN)/autograder demo

lab: install ## JupyterLab on release/
	@$(BIN)/jupyter lab --notebook-dir release $(if $(filter 0,$(shell id -u)),--allow-root)

bench: install ## run every benchmark
	@for file in benchmarks/*.py; do \
	  [ -e "$$file" ] || { echo "make bench: benchmarks/ holds no *.py" >&2; exit 1; }; \
	  echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

# Everything that CI runs. pytest comes last: its summary is the last line.
test: install system ## everything that CI runs
	@for step in lint types built verify test-colab test-pytest; do \
	  printf '== make %s (at %d s)\n' "$$step" "$$SECONDS"; $(MAKE) "$$step" || exit 1; done

lint: install ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install ## pyright
	@$(BIN)/pyright

built: install ## what is built matches its master
	@$(BIN)/autograder build --check

verify: install ## references pass, stubs fail, every known mistake is caught
	@for unit in source/*/; do $(BIN)/autograder verify --strict "$$(basename "$$unit")" || exit 1; done

test-colab: install ## release notebooks, solved, in environments that hold only what Colab holds
	@$(PYTEST) -n 2 --durations=0 tests/colab/colab_runtime.py

test-pytest: install system ## pytest, nbval over the notebooks included
	@$(PYTEST) -n 2 --durations=10

clean: ## remove the environments, caches and the demo's class
	@rm -rf .venv .pytest_cache .ruff_cache dist build class
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
