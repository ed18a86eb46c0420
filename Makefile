# Two commands are enough: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := envs/requirements.txt envs/requirements-nodeps.txt envs/requirements-train.txt \
	envs/requirements-test.txt envs/constraints.txt
CORES ?= all

.PHONY: help install demo test bench lint docs clean

help:            ## say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

install: $(VENV)/.installed  ## create the virtual environment with pinned requirements

$(VENV)/.installed: $(REQUIREMENTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Reprise needs CPython 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r envs/requirements.txt -r envs/requirements-train.txt -r envs/requirements-test.txt \
		-c envs/constraints.txt
	$(BIN)/pip install --quiet --no-deps -r envs/requirements-nodeps.txt
	touch $@

demo: install    ## run the embedded study and write results/report/index.html
	if [ -t 1 ]; then logger="--logger rich"; fi; $(BIN)/snakemake --cores $(CORES) $$logger

test: install    ## run the tests
	$(BIN)/pytest

bench: install   ## rewrite benchmarks/results.json and the README's table
	$(BIN)/python -m benchmarks

lint: install    ## ruff, snakefmt and snakemake --lint
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/snakefmt --check Snakefile rules && $(BIN)/snakemake --lint

docs: install    ## regenerate config/schema.json and config/config.default.yaml
	$(BIN)/python -m reprise.config.docs

clean:           ## remove results (keeps the virtual environment)
	find results -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} + ; rm -rf .snakemake
