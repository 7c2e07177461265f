# Two commands do everything: `make sweep` and `make test`. Both make the environment first, once.
PYTHON ?= python3
PY := .venv/bin/python
STEPS ?= 250,1000,4000
SWEEP ?= main

.DEFAULT_GOAL := help
# one target per standard sweep: conf/experiment/NAME.yaml -> make sweep-NAME
STUDIES := $(patsubst conf/experiment/%.yaml,sweep-%,$(wildcard conf/experiment/*.yaml))

PORT ?= 5000
# of make test: processes, and what else pytest is told, e.g. TESTS="tests/test_plan.py -m 'not slow'"
WORKERS ?= 2
TESTS ?=

.PHONY: help install sweep test lint check format bench ui report mlflow-server clean $(STUDIES)

help:
	@echo "make sweep        anneal the embedded model for $(STEPS) steps, score before and after, show the table"
	@echo "make test         the tests"
	@echo "make ui           the MLflow UI with all outcomes"
	@echo "make report       what the sweep $(SWEEP) says: page, figures, tables (SWEEP=… for another)"
	@echo "make mlflow-server  an MLflow server on PostgreSQL for tracking=server; PORT=$(PORT)"
	@echo "make $(firstword $(STUDIES)) …  standard sweeps: $(STUDIES)"
	@echo "make install      only make .venv;   make check  format, lint, types, tests;   make bench  the measurements"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@echo "making .venv (once, a few minutes: it fetches torch and friends)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt -e '.[dev]'
	@touch $@

sweep: install
	@$(PY) -m sweep -m anneal.steps=$(STEPS)

$(STUDIES): sweep-%: install
	@$(PY) -m sweep experiment=$*

test: install
	$(PY) -m pytest -n $(WORKERS) $(TESTS)

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

clean:
	rm -rf .venv multirun/*
