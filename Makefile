# Docxy: make run · make test · make check · make bench
# Everything is made in .venv and .make; both may be deleted at any time.

PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests

.PHONY: run test check bench clean

run: .make/run
	$(BIN)/gunicorn

# What this machine lacks is installed first, if it may be: tests/programs.sh.
test: .make/dev
	sh tests/programs.sh
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(TESTS)

check: .make/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .make/dev
	sh tests/programs.sh
	$(BIN)/python -m bench

clean:
	rm -rf .venv .make

.venv/bin/python:
	$(PYTHON) -m venv .venv

.make/run: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@mkdir -p .make && touch $@

.make/dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@mkdir -p .make && touch $@ .make/run
