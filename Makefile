# python3.11, or else python3. `make test PYTHON=python3.12` takes another one, in a virtual environment of its own.
DEFAULT_PYTHON := $(shell command -v python3.11 >/dev/null 2>&1 && echo python3.11 || echo python3)
PYTHON ?= $(DEFAULT_PYTHON)
VENV := $(if $(filter $(DEFAULT_PYTHON),$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' scalenet_gp/_version.py)

.DEFAULT_GOAL := help
.PHONY: help install test demo docs bench lint format build hooks release clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	@echo "  PYTHON=python3.12 after any of them uses that Python instead of $(DEFAULT_PYTHON)"

install: $(INSTALLED) ## install the package and its tools into a virtual environment, if they are missing or out of date

$(INSTALLED): setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[test]'
# Tests and benchmarks compare with it; everything that they use of its dependencies is there.
	$(PIP) --no-deps leibnetz
	@touch $@

# One process for each core, each with one thread: tests are small, and threads would wait for each other. Bytecode is
# kept, whatever the shell says: processes that tests start import the sources many times.
test: $(INSTALLED) ## run the tests
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses logical --dist worksteal

demo: $(INSTALLED) ## generate a volume, train a ScaleNet and a U-Net on it, predict and evaluate
	$(BIN)/scalenet-gp demo

docs: $(INSTALLED)-docs ## build the documentation into docs/_build/html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(INSTALLED) ## measure against LeibNetz and a single U-Net: a quarter of an hour on two cores
	$(BIN)/python benchmarks/forward.py

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED) ## correct the style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: $(INSTALLED) ## build the wheel and the source archive into dist/
	$(BIN)/python -m build

hooks: $(INSTALLED)-dev ## check every commit before it is made (.pre-commit-config.yaml)
	$(BIN)/pre-commit install

release: $(INSTALLED)-dev lint test docs ## check and build a release into dist/; CONTRIBUTING.md lists all steps
	@test -z "$$(git status --porcelain)" || { echo "There are changes that are not committed." >&2; exit 1; }
	@grep -q '^## $(VERSION) ([0-9-]*)$$' CHANGELOG.md \
		|| { echo "CHANGELOG.md has no section '## $(VERSION) (year-month-day)'." >&2; exit 1; }
	@grep -q '^version: $(VERSION)$$' CITATION.cff || { echo "CITATION.cff names another version than $(VERSION)." >&2; exit 1; }
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	@echo "Next: git tag -a v$(VERSION) -m $(VERSION), git push origin v$(VERSION), $(BIN)/twine upload dist/*"

$(INSTALLED)-docs $(INSTALLED)-dev: $(INSTALLED)-%: $(INSTALLED)
	$(PIP) --editable '.[$*]'
	@touch $@

clean: ## remove virtual environments, caches and built archives
	rm -rf .venv* build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
