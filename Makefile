# make demo: the main job, on this machine.   make test: everything that can be checked, checked.
# make torture, make bench: the long ones.   make peers: the newest releases of what it replaces.
# Both install what they need (apt-get as root, pip into .venv) and say so.

PYTHON ?= /usr/bin/python3
BIN := .venv/bin
export DEBIAN_FRONTEND := noninteractive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test setup lint types generated pytest torture bench peers clean

demo:
	@PYTHON=$(PYTHON) tests/setup.sh demo
	$(PYTHON) examples/demo.py

test: lint types generated pytest

setup:
	@PYTHON=$(PYTHON) tests/setup.sh test

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup
	$(BIN)/mypy
	MYPYPATH=tests:benchmarks $(BIN)/mypy --strict tests/*.py examples/*.py benchmarks/*.py

# acceptor.py and schemas/ are what the models say today.
generated: setup
	$(BIN)/python -m kolla_start.generate --check

pytest: setup
	$(BIN)/python -m pytest

# The long part of the tests: 40 minutes on two cores at TORTURE=1, two at 0.01 (what CI runs).
torture: setup
	$(BIN)/pip install -q -e '.[torture]'
	$(BIN)/python tests/torture.py --scale $(or $(TORTURE),1)

# How long it takes, beside upstream, chown, cp and rsync.
bench: setup
	$(BIN)/python benchmarks/bench.py --markdown

# The newest Kolla and kolla-ansible beside the pinned ones (tests/peers.txt): what changed there,
# and whether the tests are content with it.
peers: setup
	$(BIN)/python tests/peers.py newest

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
