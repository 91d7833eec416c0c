# Docxy: make run · make test · make check · make soak · make bench · make chaos · make trace
# Everything is made in .venv, which may be deleted at any time.

PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests
# A test run compiles 80,000 lines if it may keep no bytecode, and so does each server that it starts.
unexport PYTHONDONTWRITEBYTECODE

# The servers and clients that the tests are made with have tests of their own, marked `rig`. They
# run unless git says that nothing of it has changed since the commit before; RIG= always runs them.
RIG = tests/hub tests/clients tests/tables.py tests/scheduling.py tests/browser/visiting.py \
      tests/browser/accessibility.py
SAME_RIG = $(if $(RIG),$(shell git diff --quiet HEAD~ -- $(RIG) 2>/dev/null && echo "and not rig"))
SLOWEST ?= 10
JOBS ?= 2
# The tests of a file stay together, since they share servers: tests/scheduling.py.
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=$(SLOWEST)

.PHONY: run test soak check bench chaos trace clean

run: .venv/run-is-ready
	$(BIN)/python serve.py

# What this machine lacks is installed first, if it may be: tests/programs.sh. Tests that are named
# with TESTS run whatever their marks are.
test: .venv/dev-is-ready
	sh tests/programs.sh
	$(PYTEST) $(if $(filter tests,$(TESTS)),-m "not soak $(SAME_RIG)") $(TESTS)

# Endurance: many downloads, floods, faults by chance, real minutes.
soak: .venv/dev-is-ready
	sh tests/programs.sh
	$(PYTEST) -m soak $(TESTS)

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
