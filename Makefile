# The words CI uses too. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3.11
TORCH ?= locked
VENV := .venv/bin
DATA ?= ../shared/data/training-datasets/datasets/ds_bccd

.PHONY: help setup lock demo test check format real describe image clean

help:            ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup:           ## the virtual environment .venv, from the lock (TORCH=cpu: the torch build that pip finds here)
	@$(PYTHON) scripts/setup_environment.py --torch $(TORCH)

lock: setup      ## rewrites requirements*.lock from pyproject.toml
	scripts/lock.sh

demo: setup      ## draws a small data set and trains on it: no server, no network, no credentials
	@$(VENV)/python scripts/demo.py

test: setup      ## the whole suite
	$(VENV)/python -m pytest

check: setup     ## formatter, linter, types, import rules, Dockerfile
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-cache
	$(VENV)/python scripts/describe.py --check
	$(VENV)/hadolint Dockerfile

format: setup    ## formats and repairs what can be
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .

describe: setup  ## rewrites docs/environment.md from the code
	$(VENV)/python scripts/describe.py

real: setup      ## trains on real data, locally and over S3 and HTTP, beside a plain MMDetection run (DATA=folder)
	$(VENV)/python scripts/real.py --data $(DATA)

image:           ## the container image (BASE_IMAGE=...: see Dockerfile)
	docker build $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) -t openmmlab-trainer .

clean:           ## removes what the targets made here, not the user's cache
	rm -rf .venv workspace .mypy_cache .ruff_cache .pytest_cache .hypothesis
