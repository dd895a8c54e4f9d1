# `make up` and `make test` are all that a fresh machine with Python 3.11+ and make needs.

VENV ?= .venv
WORKERS ?= 2
PY := $(VENV)/bin/python
export WORKERS

MODEL_FILES := $(wildcard models/*/pyproject.toml)

.PHONY: help up down status logs test lint format
.DEFAULT_GOAL := help

help:
	@echo "make up       start the broker and WORKERS (now $(WORKERS)) workers, and make one prediction"
	@echo "make status   what supervisor says of the processes"
	@echo "make logs     the last lines of their logs (FOLLOW=1: and all that come)"
	@echo "make down     stop everything, after the calls under way have ended"
	@echo "make test     run the tests"
	@echo "make lint     check the code; make format mends its layout"

$(VENV)/.installed: requirements.txt $(MODEL_FILES) deploy/zerorpc_command.pth scripts/make_venv
	@scripts/make_venv $(VENV) requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@scripts/make_venv $(VENV) requirements-dev.txt
	@touch $@

up: $(VENV)/.installed
	@$(PY) -m scripts.up

down: $(VENV)/.installed
	@$(PY) -m scripts.down

status: $(VENV)/.installed
	@$(PY) -m scripts.status

logs: $(VENV)/.installed
	@$(PY) -m scripts.logs $(if $(FOLLOW),--follow)

test: $(VENV)/.installed-dev
	$(PY) -m pytest $(ARGS)

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.installed-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
