# Everything runs in .venv, which `make setup` makes; nothing but Python 3.11 and make is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
HEADLESS := $(shell grep opencv-python-headless requirements.lock)
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup train test test-ci test-all lint docs audit format ui bench lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

setup: .venv/installed ## make .venv with the locked versions (2 to 5 minutes, 3.5 GB)

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --progress-bar off --quiet --requirement requirements.lock
	# Both OpenCV packages own the same files; those of the headless one need no display libraries of the system.
	$(BIN)/pip install --disable-pip-version-check --progress-bar off --quiet --no-deps --force-reinstall $(HEADLESS)
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

train: setup ## train on phantom data, under 3 minutes on 2 cores, and show the scores
	$(BIN)/python -m attnunet.train experiment=phantom

test: setup ## the fast tests, under 5 minutes on 2 cores
	$(BIN)/pytest -q -m "not slow" --numprocesses 2 --dist loadfile

test-ci: setup ## one test of each slow kind
	$(BIN)/pytest -q -m ci --numprocesses 2 --dist loadfile

test-all: setup ## every test
	$(BIN)/pytest -q

lint: setup ## ruff (check and format), types, and that imports point downward
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup ## the documentation as a site in site/; a dead link, a missing anchor and a page without place in the menu fail
	$(BIN)/python .ci/reference.py
	$(BIN)/python .ci/scores.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

audit: setup ## known vulnerabilities of the locked packages, where the registry tells of them
	$(BIN)/python .ci/audit.py

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: setup ## the MLflow UI on this project's runs, on loopback
	$(BIN)/python -m attnunet.store ui

bench: setup ## where the time goes: step, pipeline, preparation, overhead, start, sweep (half an hour, quiet machine)
	$(BIN)/python experiments/throughput/bench.py

lock: setup ## resolve pyproject.toml anew into requirements.lock
	$(BIN)/python .ci/lock.py

clean: ## remove .venv and caches; runs in mlruns/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache dist site
	find . -name __pycache__ -not -path './mlruns/*' -prune -exec rm -rf {} +
