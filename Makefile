# Everything one does with this repository. `make` alone lists it; nothing but Python 3.11, git and
# make is needed beforehand: the environment is made in .venv and kept until pyproject.toml changes.

PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
RUNTIME := $(ENV)/.celeriac-runtime
DEV := $(ENV)/.celeriac-dev
SERVERS := $(ENV)/.celeriac-servers
FUZZING := $(ENV)/.celeriac-fuzz
SERVICES := $(ENV)/.celeriac-services
BENCH := $(ENV)/.celeriac-bench
# A real Celery, which the tests of tests/interop speak to; apart, since it is no dependency of ours.
CELERY_ENV := .interop-env
CELERY := $(CELERY_ENV)/.celeriac-peer
CHECKED := $(wildcard src tests benchmarks examples)
# In this order: what fails fast comes first.
TESTS := $(wildcard $(addprefix tests/,unit contract fuzz integration interop))
# By themselves, since they hold the processes that they kill to a time.
FAULTS := $(wildcard tests/faults)
# Files of tests that run side by side: most wait for processes that start.
JOBS ?= 2

# More options for pytest: make unit PYTEST="-k settlement -x"
PYTEST ?=
# What is measured, and how: one round of the short form; python -m benchmarks --help has the rest.
BENCHMARKS ?= --rounds 1
# What is profiled: python -m benchmarks.profile --help.
PROFILE ?=
# Seconds for each target of make fuzz; there are 15, and two run side by side.
FUZZ_SECONDS ?= 60
DOCS_OUTPUT := docs/_build/html

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# Silences the question for a newer version, which would need the network at each run.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The parts of `test` run one after the other, also under `make -j`: they share two cores and a screen.
.NOTPARALLEL:
.PHONY: help env services demo test check bench profile docs format lint types architecture \
        unit contract integration faults interop chaos fuzz fix dist clean

help: ## Say what there is to make
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(if $(BROKER),$(SERVERS),$(RUNTIME)) ## See a worker do a real job (BROKER=redis://... uses that server)
	@BROKER="$(BROKER)" $(BIN)/python examples/stdlib_census/demo.py

test: $(DEV) format lint types docs $(SERVICES) $(CELERY) ## Check everything, then run every test (what CI runs)
	$(BIN)/python -m pytest $(PYTEST) --numprocesses $(JOBS) --dist loadfile $(TESTS)
	$(BIN)/python -m pytest $(PYTEST) $(FAULTS)

check: $(DEV) format lint types architecture ## Check format, lint, types and architecture; run no other test

bench: $(BENCH) ## Measure Celeriac beside other task queues: make bench BENCHMARKS="all --broker amqp --report"
	$(BIN)/python -m benchmarks $(BENCHMARKS)

profile: $(BENCH) ## See where the time of caller, parent and child goes, as flame graphs
	$(BIN)/python -m benchmarks.profile $(PROFILE)

docs: $(DEV) ## Build the documentation into docs/_build/html, warnings as errors
	$(BIN)/python -m sphinx --fail-on-warning --nitpicky --fresh-env --quiet -b html docs $(DOCS_OUTPUT)
	@echo "documentation: $(DOCS_OUTPUT)/index.html"

format: $(DEV) ## Check the format (make fix corrects it)
	$(BIN)/ruff format --check

lint: $(DEV) ## Look for mistakes and needless complexity
	$(BIN)/ruff check

types: $(DEV) ## Check types with mypy (strict) and pyright
	$(BIN)/mypy $(CHECKED)
	$(BIN)/pyright

architecture: $(DEV) ## Check that imports go down and that nothing grows too long
	$(BIN)/python -m pytest $(PYTEST) --quiet tests/unit/test_architecture.py

unit: $(DEV) ## Test single parts
contract: $(DEV) ## Test every broker and store against its contract
integration: $(DEV) ## Test clients and workers together
faults: $(DEV) ## Test that nothing is lost when processes are killed
interop: $(DEV) ## Test against bytes that Celery wrote, and against Celery itself
contract integration faults interop: $(SERVICES)
interop: $(CELERY)
unit contract integration faults interop:
	$(BIN)/python -m pytest $(PYTEST) tests/$@

chaos: $(SERVICES) ## Break things under load, in runs of 20,000 tasks, and print what was lost (half an hour)
	CELERIAC_LONG_FAULTS=1 $(BIN)/python -m pytest $(PYTEST) --capture=no -m chaos tests/faults

fuzz: $(FUZZING) ## Give every decoder hostile bytes: make fuzz FUZZ_SECONDS=600
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

env: $(DEV) ## Make the environment in .venv, for editors and for running things by hand

services: $(SERVICES) ## Install the servers that tests start: Redis and RabbitMQ

fix: $(DEV) ## Correct format and what lint can correct
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

dist: $(DEV) ## Build the wheel and the source archive into dist/
	$(BIN)/python -m build

clean: ## Remove what was built, and the environment
	rm -rf $(ENV) $(CELERY_ENV) .bench-env build dist $(DOCS_OUTPUT) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(RUNTIME): pyproject.toml
	@PYTHON="$(PYTHON)" sh scripts/environment.sh $(ENV) --editable .
	@touch $@

$(SERVERS): pyproject.toml
	@PYTHON="$(PYTHON)" sh scripts/environment.sh $(ENV) --editable '.[amqp,redis]'
	@touch $@ $(RUNTIME)

$(BENCH): pyproject.toml
	@PYTHON="$(PYTHON)" sh scripts/environment.sh $(ENV) --editable '.[amqp,bench,redis]'
	@touch $@ $(SERVERS) $(RUNTIME)

$(DEV): pyproject.toml
	@PYTHON="$(PYTHON)" sh scripts/environment.sh $(ENV) --editable '.[dev]'
	@touch $@ $(RUNTIME)

$(FUZZING): pyproject.toml
	@PYTHON="$(PYTHON)" sh scripts/environment.sh $(ENV) --editable '.[dev,fuzz]'
	@touch $@ $(DEV) $(RUNTIME)

# Made again and again while a server is missing, so that nobody overlooks what is left out.
$(SERVICES): scripts/services.sh | $(DEV)
	@sh scripts/services.sh $@

$(CELERY): tests/interop/requirements.txt
	@PYTHON="$(PYTHON)" sh scripts/environment.sh $(CELERY_ENV) --requirement $<
	@touch $@
