# Every target does its own set-up: a fresh machine needs Python >= 3.11 and make, nothing more.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Of tests: one thread for each of many processes, which read what one of them has compiled.
ENVIRONMENT := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
# make reproduce LOCKED=1: the versions of experiments/requirements.lock, by their hashes, in an environment of their own.
LOCKED_VENV ?= .venv-locked
REPRODUCING := $(if $(LOCKED),$(LOCKED_VENV),$(VENV))

.PHONY: demo explore test test-all test-lowest docs package lock quick test-data lint types reproduce sizes benchmark benchmark-fidelity benchmark-throughput benchmark-index benchmark-replay benchmark-jobs benchmark-explore benchmark-tables mutants kills clean help

help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 22
	@printf '\nmake reproduce:\n'; $(MAKE) --silent sizes

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "upweight needs Python 3.11 or newer, not " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)   ## flip labels on digits, find them, explain an error, prove it by retraining, write a report
	$(BIN)/upweight demo

explore: $(READY) ## open a page on the demo's digits: look at flipped labels, decide, clean
	$(BIN)/upweight explore --demo

test: lint types ## lint, types and the test suite
	$(ENVIRONMENT) $(BIN)/python -m pytest -m 'not slow_download and not exhaustive' -n auto --dist worksteal

test-all: lint types ## the same, and what takes minutes or tries every case (half an hour on two cores)
	$(ENVIRONMENT) $(BIN)/python -m pytest -m 'not slow_download' -n auto --dist worksteal

test-lowest: $(READY) ## the test suite with the lowest versions that pyproject.toml allows, in an environment of its own
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	$(ENVIRONMENT) .venv-lowest/bin/python -m pytest -m 'not slow_download and not exhaustive' -n auto --dist worksteal

quick: $(READY)  ## the tests that take no time: a minute
	$(ENVIRONMENT) $(BIN)/python -m pytest -q -m 'not slow and not slow_download and not exhaustive' -n auto --dist worksteal

test-data: $(READY) ## the tests that download large data sets
	$(BIN)/python -m pytest -m 'download or slow_download'

lint: $(READY)   ## style, and which room may import which
	$(BIN)/ruff check src tests experiments benchmarks docs examples
	$(BIN)/lint-imports --no-cache
	$(BIN)/ruff format --check src tests experiments benchmarks docs examples

types: $(READY)  ## mypy
	$(BIN)/mypy

reproduce: $(REPRODUCING)/.ready ## the papers' experiments and experiments/RESULTS.md; QUICK=1, FULL=1, LOCKED=1, ONLY=koh_liang
	$(REPRODUCING)/bin/python -m experiments.reproduce $(ONLY)

sizes:           ## what QUICK=1, the default and FULL=1 of make reproduce leave out
	@$(PYTHON) -c 'from experiments.listed import LEFT_OUT; print("\n".join(f"  {size:9} leaves out {out}" for size, out in LEFT_OUT.items()))'

$(LOCKED_VENV)/.ready: pyproject.toml experiments/requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the locked versions are for Python 3.11 (PYTHON=python3.11), not " + sys.version)'
	$(PYTHON) -m venv --clear $(LOCKED_VENV)
	$(LOCKED_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement experiments/requirements.lock
	$(LOCKED_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

lock: $(READY)   ## write experiments/requirements.lock from what this environment has
	$(BIN)/python -m pip list --format=freeze --exclude-editable > $(VENV)/installed.txt
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate \
	  --custom-compile-command 'make lock' --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --constraint $(VENV)/installed.txt $(foreach extra,tables plots report data text,--extra $(extra)) \
	  --output-file experiments/requirements.lock pyproject.toml experiments/requirements.in

benchmark: $(READY) ## speed beside pyDVL, each in its own environment
	$(BIN)/python -m benchmarks.fidelity.run --tasks 1-vs-7,ten-digits

benchmark-fidelity: $(READY) ## agreement with retraining, seconds and memory beside peers (20 minutes)
	$(BIN)/python -m benchmarks.fidelity.run

benchmark-throughput: $(READY) ## seconds and memory on networks of usual size beside kronfluence (on a GPU: benchmarks.throughput.gpu)
	$(BIN)/python -m benchmarks.throughput.run

benchmark-index: $(READY) ## a gradient index: agreement against bytes, projection beside peers, a million rows (40 minutes)
	$(BIN)/python -m benchmarks.index.run

benchmark-replay: $(READY) ## replayed scores against trainings with the same seed and batches (half an hour)
	$(BIN)/python -m benchmarks.replay.run

benchmark-tables: $(READY) ## errors planted in real tables, beside cleanlab (10 minutes)
	$(BIN)/python -m benchmarks.tables.run

benchmark-jobs: $(READY) ## a million examples into a store, workers, opening, kills of jobs (half an hour, 5 GB of disk)
	$(BIN)/python -m benchmarks.jobs.run

benchmark-explore: $(READY) ## the page on 50,000 rows: first paint, scrolling, filters, memory (needs Chromium)
	$(BIN)/python -m benchmarks.explore.run

mutants: $(READY) ## does a test notice small wrong changes? 60 of them, in a copy (an hour or two; goes on where it was)
	$(BIN)/python -m benchmarks.mutants

kills: $(READY)  ## kill saves, commands, fetches and trainings at random moments and look at what is on disk (an hour)
	$(BIN)/python -m benchmarks.kills

docs: $(READY)   ## the documentation site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

package: $(READY) ## wheel and source archive, into dist/, checked
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*

clean:           ## remove the virtual environments
	rm -rf .venv .venv-*
