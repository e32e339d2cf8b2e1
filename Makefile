# python3.11, or else python3. `make test PYTHON=python3.12` takes another one, in a virtual environment of its own.
DEFAULT_PYTHON := $(shell command -v python3.11 >/dev/null 2>&1 && echo python3.11 || echo python3)
PYTHON ?= $(DEFAULT_PYTHON)
VENV := $(if $(filter $(DEFAULT_PYTHON),$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help install test demo docs bench lint format build clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	@echo "  PYTHON=python3.12 after any of them takes another Python than $(DEFAULT_PYTHON)"

install: $(INSTALLED) ## put the package and its tools into a virtual environment, if they are missing or out of date

$(INSTALLED): setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
# tests and benchmarks compare with it; all that they use of its dependencies is there
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps leibnetz
	@touch $@

# a process for each core, each with one thread: tests are small, and threads would wait for each other
test: $(INSTALLED) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist loadfile

demo: $(INSTALLED) ## train the demo network on a volume made for it, predict and evaluate
	$(BIN)/scalenet-gp demo

docs: $(INSTALLED)-docs ## build the documentation, into docs/_build/html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

$(INSTALLED)-docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

bench: $(INSTALLED) ## measure against LeibNetz and a single U-Net: a quarter of an hour on two cores
	$(BIN)/python benchmarks/forward.py

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED) ## mend style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: $(INSTALLED) ## make the wheel and the source archive, into dist/
	$(BIN)/python -m build

clean: ## remove virtual environments, caches and built archives
	rm -rf .venv* build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
