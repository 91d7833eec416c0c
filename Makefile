# Docxy: make run · make test · make check · make soak · make bench · make chaos · make trace
# Everything is created in .venv, which you may delete at any time.

PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests
# If Python may not keep bytecode, each test run and each server in it compiles 80,000 lines.
unexport PYTHONDONTWRITEBYTECODE

# The servers and clients that the tests use have their own tests, marked `rig`. They run unless git
# shows that none of these files has changed since the previous commit; RIG= always runs them.
RIG = tests/hub tests/clients tests/tables.py tests/scheduling.py tests/browser/visiting.py \
      tests/browser/accessibility.py
SAME_RIG = $(if $(RIG),$(shell git diff --quiet HEAD~ -- $(RIG) 2>/dev/null && echo "and not rig"))
SLOWEST ?= 10
# Twice as many processes as the two cores that this has to suit: tests mostly wait.
JOBS ?= 4
# The tests of a file run together, since they share servers: tests/scheduling.py.
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=$(SLOWEST)

.PHONY: run test soak check bench chaos trace clean

run: .venv/run-is-ready
	$(BIN)/python serve.py

# tests/programs.sh first installs the programs that this machine lacks, if it may. Tests that are named
# with TESTS run whatever their marks are.
test: .venv/dev-is-ready
	sh tests/programs.sh
	$(PYTEST) $(if $(filter tests,$(TESTS)),-m "not soak $(SAME_RIG)") $(TESTS)

# Endurance tests: many downloads, floods, random faults, real minutes, and more examples.
soak: .venv/dev-is-ready
	sh tests/programs.sh
	$(PYTEST) -m soak $(TESTS)
	$(PYTEST) -m hypothesis --hypothesis-profile=soak tests/unit

check: .venv/dev-is-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev-is-ready
	sh tests/programs.sh
	$(BIN)/python -m bench

# SEED=1 repeats the requests of another run with that seed.
chaos: .venv/dev-is-ready
	sh tests/programs.sh
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

# Print what real requests pass through; UPDATE=1 writes the numbers into docs/architecture.md.
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
