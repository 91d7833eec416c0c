# Docxy: make run · make test · make check · make bench · make chaos · make trace
# Everything is made in .venv, which may be deleted at any time.

PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests

.PHONY: run test check bench chaos trace clean

run: .venv/run-is-ready
	$(BIN)/python serve.py

# What this machine lacks is installed first, if it may be: tests/programs.sh. The tests of a file
# stay together, since they share servers; the slowest files come first, as their folders do.
test: .venv/dev-is-ready
	sh tests/programs.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

check: .venv/dev-is-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev-is-ready
	sh tests/programs.sh
	$(BIN)/python -m bench

# SEED=1 asks for the same as another run with that seed did.
chaos: .venv/dev-is-ready
	sh tests/programs.sh
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

# Prints what real requests pass through; UPDATE=1 writes the numbers into docs/architecture.md.
trace: .venv/dev-is-ready
	sh tests/programs.sh
	$(BIN)/python -m tests.trace $(if $(UPDATE),--update)

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run-is-ready: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev-is-ready: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ .venv/run-is-ready
