# `make` alone lists what there is. What is installed (apt-get as root, pip into .venv) is said.

PYTHON ?= /usr/bin/python3
BIN := .venv/bin
export DEBIAN_FRONTEND := noninteractive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SOURCES = $(shell find tests examples benchmarks -name '*.py')
# What needs neither apt nor a network, and little time: the house, the document room, the
# instrument, and kolla_set_configs as far as one sandbox after another goes.
QUICK := tests/test_house.py tests/test_docs.py tests/document tests/lib \
	tests/plan/test_configure.py tests/plan/test_refused.py tests/plan/test_exclude.py

.PHONY: help demo quick test setup setup-bench lint types generated picture pytest torture bench peers clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## the main job, shown on this machine
	@PYTHON=$(PYTHON) tests/setup.sh demo
	$(PYTHON) examples/demo.py

quick: ## lint, types and the quick tests, in a minute; installs nothing
	@test -x $(BIN)/python || { echo 'quick: no .venv here: run `make setup` once'; exit 1; }
	@$(MAKE) --no-print-directory -j2 --output-sync=line quick-static quick-tests
	@echo 'quick: left out are tests/ plan (histories, records), disk, launch, upstream, adversary,'
	@echo 'containers and torture: `make test` runs them all, `$(BIN)/python -m pytest PATH` one.'

test: lint types generated pytest ## everything that can be checked, checked; what CI runs

setup: ## what the tests need: apt packages (as root), .venv, the programs to compare with
	@PYTHON=$(PYTHON) tests/setup.sh test

setup-bench: # and systemd-tmpfiles
	@PYTHON=$(PYTHON) tests/setup.sh bench

lint: setup ## ruff
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## mypy --strict, of everything
	$(BIN)/mypy
	MYPYPATH=tests/lib:benchmarks $(BIN)/mypy --strict $(SOURCES)

generated: setup ## whether table.py and schemas/ are what the models say today
	$(BIN)/python -m kolla_start.document.generate --check

picture: ## the picture of the imports, written into docs/architecture.md
	$(BIN)/python tests/lib/house.py --picture docs/architecture.md

pytest: setup ## all tests
	$(BIN)/python -m pytest

torture: setup ## the long part: hours on two cores at TORTURE=1, 15 minutes at 0.01 (what CI runs)
	$(BIN)/pip install -q -e '.[torture]'
	$(BIN)/python tests/torture/torture.py --scale $(or $(TORTURE),1)

bench: setup-bench ## how long it takes, beside upstream, systemd-tmpfiles, chown, cp and rsync
	$(BIN)/python benchmarks/bench.py --markdown

peers: setup ## the newest Kolla and kolla-ansible beside the pinned ones (tests/peers.txt)
	$(BIN)/python tests/lib/peers.py newest

clean: ## away with .venv and every cache
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: quick-static quick-tests
quick-static:
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@if test -x $(BIN)/mypy; then MYPYPATH=tests/lib:benchmarks $(BIN)/mypy --strict $(SOURCES); \
	else echo 'quick: no mypy in .venv, types are left out'; fi

quick-tests:
	$(BIN)/python -m pytest -q $(QUICK)
