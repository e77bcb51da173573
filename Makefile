# `make train` and `make test` set up all that they need; a second run starts in seconds.
PYTHON := .venv/bin/python
ENV ?= flashgames.NeonRace-v0
ARGS ?=

.PHONY: help train test check bench format setup

help:  ## Lists what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

train:  ## Sets up and trains on NeonRace; ARGS="--minutes 3 --workers 2" passes flags on
	@scripts/setup train
	@$(PYTHON) -m raygym.train --env $(ENV) $(ARGS)

test:  ## Sets up and passes the whole test suite
	@scripts/setup test
	@scripts/peers
	@scripts/suite

check:  ## Format, lint, types, import rules and unit tests, in under two minutes
	@scripts/setup test
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports --no-cache
	@$(PYTHON) -m pytest -q tests/unit -n 2 --dist loadfile

bench:  ## Prints the benchmarks of docs/benchmarks.md
	@scripts/setup test
	@scripts/peers
	@scripts/engine
	@.venv/bin/raygym images build
	@$(PYTHON) benchmarks/run.py

format:  ## Formats and mends what can be mended
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

setup:  ## Sets up only
	@scripts/setup test
