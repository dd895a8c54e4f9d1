# `make up` and `make test` are all that a fresh machine with Python 3.11+ and make needs.

VENV ?= .venv
PY := $(VENV)/bin/python
MODEL_FILES := $(wildcard models/*/pyproject.toml)
CLIENT_FILES := clients/python/pyproject.toml

# The scripts see these, from the command line or from the environment.
ifdef WORKERS
export WORKERS
endif
ifdef PYTHON
export PYTHON
endif
# COMPILED=1: with the core compiled (scripts/compile_core.py).
ifdef COMPILED
export COMPILED
COMPILER_INSTALLED := $(VENV)/.installed-compiled
endif
# A folder of one's own with models.py, and perhaps with requirements.txt: scripts/app_folder.py.
ifdef APP
export APP
APP_REQUIREMENTS := $(wildcard $(APP)/requirements.txt)
APP_INSTALLED := $(if $(APP_REQUIREMENTS),$(VENV)/.installed-app$(subst /,-,$(abspath $(APP))))
endif

# First the tests that mostly wait, six at a time in the order of the folders; then those that measure, one at a time.
# Each line of dots ends with the percentage. NIGHTLY=1 adds the long forms. Exit code 5 means that ARGS selects no test:
# an error only if both parts say so.
define pytest
$(PY) -m pytest -n 6 --dist loadscope --no-loadscope-reorder -m "$(1) $(if $(NIGHTLY),,not nightly and) not alone" $(ARGS); first=$$?; \
test $$first = 0 -o $$first = 5 || exit $$first; \
$(PY) -m pytest -m "$(1) $(if $(NIGHTLY),,not nightly and) alone" $(ARGS); second=$$?; \
if [ $$second = 5 ]; then exit $$first; else exit $$second; fi
endef

.PHONY: help up down restart status logs compose try test test-model test-faults test-compiled bench-tools bench bench-clients bench-keys bench-compiled bench-peers docs simulate mutants lint format
.DEFAULT_GOAL := help

help:
	@echo "make up       start the broker and WORKERS (2) workers, and make one prediction"
	@echo "              SECURE=1: with keys, made at the first time (docs/security.md)"
	@echo "              APP=path/to/folder: with the models of its models.py (README, Host your own model)"
	@echo "              COMPILED=1: with the core compiled, which needs a C compiler (docs/operations.md)"
	@echo "make status   show the state of each process"
	@echo "make logs     show the last lines of their logs (FOLLOW=1: follow them)"
	@echo "make restart  restart the workers one at a time; no call is lost"
	@echo "make down     stop everything, after the calls in flight have ended"
	@echo "make compose  start the cluster in containers (WORKERS=..., APP=path/to/folder)"
	@echo "make try MODEL=module:Class [INPUT='{json}']: try a model without a cluster"
	@echo "make test-model NAME=...: run the tests of models/NAME"
	@echo "make test     run the tests (ARGS=... for pytest; NIGHTLY=1: also the long forms)"
	@echo "make test-faults: run the tests of docs/reliability.md, and print their figures"
	@echo "make test-compiled: compile the core, and run its tests"
	@echo "make bench    compare this cluster with plain ZeroRPC servers (docs/performance.md)"
	@echo "make bench-peers: compare it with other model servers too, each in its own virtual environment"
	@echo "make bench-clients: compare the clients: the stock one, and those of clients/python"
	@echo "make bench-keys: compare the cluster with keys to the cluster without"
	@echo "make bench-compiled: compare the cluster with its core compiled to the plain one"
	@echo "make bench-tools: install the requirements of scripts/load.py, the load generator"
	@echo "make docs     write a page and a typed Python client for the running service"
	@echo "make simulate SEEDS=100 STEPS=5000: run the routing core through long simulated worlds"
	@echo "make mutants  put faults into the core, and check that the tests notice them"
	@echo "make lint     check the code; make format fixes its layout"

$(VENV)/.installed: requirements.txt $(MODEL_FILES) deploy/zerorpc_command.pth scripts/make_venv
	@scripts/make_venv $(VENV) requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements-bench.txt requirements-docs.txt $(CLIENT_FILES) $(VENV)/.installed
	@scripts/make_venv $(VENV) requirements-dev.txt
	@touch $@

$(VENV)/.installed-bench: requirements-bench.txt $(CLIENT_FILES) $(VENV)/.installed
	@scripts/make_venv $(VENV) requirements-bench.txt
	@touch $@

$(VENV)/.installed-docs: requirements-docs.txt $(VENV)/.installed
	@scripts/make_venv $(VENV) requirements-docs.txt
	@touch $@

ifdef APP_INSTALLED
$(APP_INSTALLED): $(APP_REQUIREMENTS) $(VENV)/.installed
	@scripts/make_venv $(VENV) $(APP_REQUIREMENTS)
	@touch $@
endif

$(VENV)/.installed-compiled: requirements-compiled.txt $(VENV)/.installed
	@scripts/make_venv $(VENV) requirements-compiled.txt
	@touch $@

up: $(VENV)/.installed $(APP_INSTALLED) $(COMPILER_INSTALLED)
	@$(PY) -m scripts.up

# Commands for a running cluster install nothing, so that they work whatever requirements.txt has become.
down restart status logs:
	@test -x $(PY) || { echo "error: there is no $(VENV), so no cluster has been started here; start one with make up" >&2; exit 1; }
	@$(PY) -m scripts.$@ $(if $(and $(FOLLOW),$(filter logs,$@)),--follow)

compose: $(VENV)/.installed
	@$(PY) -m scripts.compose

try: $(VENV)/.installed
	@$(PY) -m scripts.try_model $(MODEL) $(if $(INPUT),'$(INPUT)')

test-model: $(VENV)/.installed-dev
	@test -d "models/$(NAME)" -a -n "$(NAME)" || { echo "error: NAME='$(NAME)' is no folder in models/; there are $(notdir $(wildcard models/*))" >&2; exit 1; }
	@$(PY) -m pytest models/$(NAME) $(ARGS)

test: $(VENV)/.installed-dev
	$(call pytest,)

test-faults: $(VENV)/.installed-dev
	$(call pytest,fault and)

# The tests of the core and of ZMTP, with both compiled. The mutants are the plain ones: each would be compiled alone.
test-compiled: $(VENV)/.installed-dev
	CLUSTER_COMPILED="$$($(PY) -m scripts.compile_core)" $(PY) -m pytest -n 6 \
	-m "not replaces_methods and not nightly and not alone" --ignore tests/simulation/test_mutants.py \
	$(ARGS) tests/unit tests/zmtp tests/simulation

bench-tools: $(VENV)/.installed-bench

bench: $(VENV)/.installed-bench
	$(PY) -m bench $(ARGS)

bench-keys: $(VENV)/.installed-bench
	@$(PY) -m bench.keys $(ARGS)

bench-compiled: $(VENV)/.installed-bench $(VENV)/.installed-compiled
	@$(PY) -m bench.compiled $(ARGS)

bench-clients: $(VENV)/.installed-bench
	$(PY) -m bench.clients $(ARGS)

bench-peers: $(VENV)/.installed-bench
	@bench/peers/make_venvs $(PY) .venv-peers
	$(PY) -m bench --peers $(ARGS)

docs: $(VENV)/.installed-docs
	@$(PY) -m scripts.describe $(ADDRESS) $(ARGS)

simulate: $(VENV)/.installed-dev
	$(PY) -m tests.simulation.run $(if $(SEEDS),--seeds $(SEEDS)) $(if $(STEPS),--steps $(STEPS)) $(if $(FIRST),--first $(FIRST))

mutants: $(VENV)/.installed-dev
	$(PY) -m tests.simulation.mutants

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.installed-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
