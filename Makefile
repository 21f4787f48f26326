# Everything runs in VENV, which `make setup` makes; nothing but make and one of these Pythons is needed.
PYTHONS := 3.11 3.12 3.13
# Where the first Python of version $(1) that starts is. A shim of pyenv starts only the versions that pyenv was told to.
find = $(shell for python in python$(1) $(HOME)/.pyenv/versions/$(1).*/bin/python; \
	do $$python -c '' >/dev/null 2>&1 && echo $$python && break; done)
PYTHON ?= $(or $(firstword $(wildcard $(VENV)/bin/python) $(foreach version,$(PYTHONS),$(call find,$(version)))),python3)
VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV ?= .venv
BIN := $(VENV)/bin
HEADLESS := $(shell grep opencv-python-headless requirements.lock)
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup train test test-ci test-all test-pythons lint docs audit format ui demo bench lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/installed ## make .venv with the locked versions (2 to 5 minutes, 3.5 GB)

$(VENV)/installed: requirements.lock pyproject.toml
	$(if $(filter $(PYTHONS),$(VERSION)),,$(error attnunet needs one of Python $(PYTHONS), and \
		$(PYTHON) is $(or $(VERSION),not found): make setup PYTHON=/path/to/python))
	$(PYTHON) -m venv $(VENV)
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

test-all: setup test-pythons ## every test; the fast ones on the other Pythons too
	$(BIN)/pytest -q

test-pythons: ## the fast tests on the other supported Pythons that are installed, each in an environment of its own
	@set -e; $(foreach version,$(filter-out $(VERSION),$(PYTHONS)),$(if $(call find,$(version)), \
		$(MAKE) test VENV=.venv-$(version) PYTHON=$(call find,$(version));))

lint: setup ## ruff (check and format), types, and that imports point downward
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup ## the documentation as a site in site/; a dead link, a missing anchor and a page without place in the menu fail
	$(BIN)/python .ci/reference.py
	$(BIN)/python .ci/scores.py
	$(BIN)/python .ci/logged.py
	$(BIN)/python .ci/notebook.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

audit: setup ## known vulnerabilities of the locked packages, where the registry tells of them
	$(BIN)/python .ci/audit.py

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: setup ## the MLflow UI on this project's runs, on loopback
	$(BIN)/python -m attnunet.store ui

demo: setup ## a page to try this project's networks on, on loopback
	$(BIN)/python -m attnunet.demo

bench: setup ## where the time goes: step, pipeline, preparation, volumes, overhead, start, sweep, inference, runtimes (50 minutes, quiet)
	$(BIN)/python experiments/throughput/bench.py

lock: setup ## resolve pyproject.toml anew into requirements.lock and requirements-gpu.lock
	$(BIN)/python .ci/lock.py

clean: ## remove .venv and caches; runs in mlruns/ stay
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache dist site
	find . -name __pycache__ -not -path './mlruns/*' -prune -exec rm -rf {} +
