# `make` lists the targets. Needs Python 3.11 and make; everything else is installed into .venv from requirements.lock.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup packages demo ui test check bench autogluon screenshots lock clean distclean

VENV := .venv
BIN := $(VENV)/bin
AUTOGLUON := .venv-autogluon
PYTHON ?= $(shell for name in python3.11 python3 python; do "$$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && command -v "$$name" && break; done)
UI ?= 1
ONLY ?=
ARGS ?=
SHARED = -n 2 --dist loadfile # a file's tests share what they make
NONE_IS_FINE = $(if $(ARGS),|| [ $$? -eq 5 ]) # a choice may leave none of one kind

# The same as ml_assets/resources/process.py, which a test compares.
export DAGSTER_HOME := $(CURDIR)
export DAGSTER_EVENT_BATCH_SIZE := 500
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export RUNTIME__DLTHUB_TELEMETRY := false
export FEAST_USAGE := False
export GX_ANALYTICS_ENABLED := false
export GIT_PYTHON_REFRESH := quiet
export GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT := false
export MPLBACKEND := Agg
export OMP_WAIT_POLICY := passive

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/stamp ## make or update the environment in .venv

$(VENV)/stamp: requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 is needed and not on PATH; install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@if ! [ -x $(BIN)/pip ]; then \
	  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3.11-venv" >&2; exit 1; }; \
	  echo "Making $(VENV) with $(PYTHON)"; "$(PYTHON)" -m venv --clear $(VENV); fi
	@awk '/^[a-z0-9]/ {on = /^uv==/} on' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.lock
	@# Compiled once here: every process of Dagster imports hundreds of modules, which takes twice as long from source.
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## run the whole lifecycle on the recorded year, then serve the web UI (UI=0: stop before it)
	@$(BIN)/ml-assets demo $(if $(filter 0,$(UI)),--no-ui)

ui: setup ## serve the web UI on 127.0.0.1:3000, with the daemon
	@$(BIN)/ml-assets ui

test: setup packages ## run all tests, the quick ones first (ARGS="-k name" for some)
	@$(BIN)/python -m pytest -q $(SHARED) -m "not slow and not e2e" $(ARGS) $(NONE_IS_FINE)
	@$(BIN)/python -m pytest -q $(SHARED) --no-loadscope-reorder -m "slow or e2e" $(ARGS) $(NONE_IS_FINE)

packages:
	@missing=""; for name in redis-server buildah debootstrap docker-registry prometheus; do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$$missing postgresql"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then echo "Installing$$missing, for the tests"; \
	    apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else echo "missing:$$missing; what needs it is not tested; on Debian and Ubuntu: sudo apt-get install$$missing" >&2; fi; fi

check: setup ## lint, format, types, and the rules of the rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q ml_assets_tests/architecture

bench: setup ## measure against a plain script (ONLY=name for one)
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

autogluon: setup ## make the environment of AutoGluon, the peer of ONLY=quality, in .venv-autogluon
	@"$(PYTHON)" -m venv --clear $(AUTOGLUON)
	@$(BIN)/uv pip install --quiet --python $(AUTOGLUON)/bin/python "autogluon.tabular[lightgbm,catboost,xgboost]==1.6.3"

screenshots: setup ## take the README's pictures from the running UI
	@$(BIN)/python scripts/screenshots.py

lock: setup ## solve requirements.in again, for both processor types
	@for cpu in x86_64 aarch64; do $(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --python-platform $$cpu-manylinux_2_28 --only-binary :all: \
	  --generate-hashes --no-emit-index-url --override requirements-overrides.txt --custom-compile-command "make lock" \
	  --output-file $(VENV)/$$cpu.lock requirements.in; done
	@cmp $(VENV)/x86_64.lock $(VENV)/aarch64.lock || { echo "the two processor types need different versions; pin what differs in requirements.in" >&2; exit 1; }
	@cp $(VENV)/x86_64.lock requirements.lock

clean: ## remove what was generated, keep the recorded sample
	@find data -mindepth 1 -maxdepth 1 ! -name sample -exec rm -rf {} +
	@rm -rf .telemetry .nux .logs_queue logs storage history schedules

distclean: clean ## remove the environment and the caches as well
	@rm -rf $(VENV) $(AUTOGLUON) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
