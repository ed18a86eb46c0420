# Two commands are enough: `make demo` and `make test`.

# The newest Python that Reprise is tested with; another: make PYTHON=/path/to/python3 ...
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PINS := pyproject.toml envs/constraints.txt envs/audiocraft.txt
CORES ?= all
# Three test processes of one thread each for two cores: one of them often waits for a scheduler or for a killed job.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help install install-all demo test test-fast test-slow test-all bench bench-gpu lint docs site lock clean

help:            ## say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Reprise needs CPython 3.11, 3.12 or 3.13, and found none. Older ones lack what it is \
	written in (Snakemake 9 needs 3.11); newer ones are not tested. Valid: PYTHON=/path/to/python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(PINS) | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[audiocraft]' --constraint envs/constraints.txt
	$(BIN)/pip install --quiet --no-deps -r envs/audiocraft.txt
	touch $@

$(VENV)/.all: $(VENV)/.demo
	$(BIN)/pip install --quiet --editable '.[audiocraft,slurm,train,notebook,test]' --constraint envs/constraints.txt
	touch $@

install: $(VENV)/.demo      ## create the virtual environment: what the demo needs
install-all: $(VENV)/.all   ## and what tests, clusters, training of SAEs and notebooks need

demo: install    ## run the embedded study and write results/report/index.html
	if [ -t 1 ]; then logger="--logger rich"; fi; $(BIN)/snakemake --cores $(CORES) $$logger

test: install-all       ## run the tests: minutes
	$(PYTEST) -m "not slow"

test-fast: install-all  ## unit tests that load no model: seconds
	$(PYTEST) -m "not slow and not model" tests/unit

test-slow: install-all  ## only what `make test` leaves out: kills, SLURM, browser, some whole studies
	$(PYTEST) -m slow

test-all: install-all   ## every test
	$(PYTEST)

bench: install-all   ## rewrite benchmarks/results.json and the tables in the docs
	$(BIN)/python -m benchmarks

bench-gpu: install-all   ## rewrite benchmarks/gpu.json: correctness and speed on a GPU, in under 8 minutes
	$(BIN)/python -m benchmarks.gpu

lint: install-all    ## ruff, snakefmt, snakemake --lint and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/snakefmt --check Snakefile rules && $(BIN)/snakemake --lint
	$(BIN)/mypy

docs: install-all    ## regenerate what comes from code: config/schema.json, config.default.yaml, pages of docs/
	$(BIN)/python -m reprise.config.docs

site: install-all    ## build the docs site into results/site, links checked
	$(BIN)/pip install --quiet --editable '.[docs]' --constraint envs/constraints.txt
	$(BIN)/mkdocs build --strict

lock: install-all    ## resolve the pins again (needs uv)
	$(BIN)/python envs/lock.py

clean:           ## remove results (keeps the virtual environment)
	find results -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} + ; rm -rf .snakemake
