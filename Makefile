# Every target sets up what it needs in `.venv` by itself; `make help` lists them.
# Overridable: PYTHON (3.11 or newer), TEXT (demo), PYTEST_ARGS (test), BENCH (bench).

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Built with the environment's own (constrained) setuptools: whatever pip's version does with
# constraints and build isolation, the build is the tested one.
EDITABLE := --no-build-isolation --editable

export TEXT
export MPLBACKEND ?= Agg
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format docs bench test-oldest wheel-smoke clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-run ## Train on the bundled data and print the quickstart (TEXT="..." tags your own text)
	@$(PY) examples/plot_quickstart.py $${TEXT:+"$$TEXT"}

test: $(VENV)/.stamp-run ## Run all tests and the docstrings' examples (PYTEST_ARGS="-k ... -x")
	@$(PY) -m pytest --doctest-modules skxmc tests $(PYTEST_ARGS)

lint: $(VENV)/.stamp-lint ## Check style, format, types and spelling
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@git ls-files -z | xargs -0 $(PY) -m codespell_lib

format: $(VENV)/.stamp-lint ## Rewrite the code to the house format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(VENV)/.stamp-docs ## Build the site in docs/_build/html, examples executed, warnings are errors
	@$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.stamp-run ## Run the benchmarks (BENCH=name runs one of benchmarks/bench_*.py)
	@set -e; for script in benchmarks/bench_$(or $(BENCH),*).py; do \
		[ -e "$$script" ] || { echo "there is no $$script"; exit 1; }; \
		echo "== $$script"; $(PY) "$$script"; done

test-oldest: .venv-oldest/.stamp ## Run the tests with the oldest versions pyproject.toml declares
	@.venv-oldest/bin/python -m pytest tests $(PYTEST_ARGS)

wheel-smoke: $(VENV)/.stamp-run ## Build the wheel, install it in a clean environment, train from outside the tree
	@rm -rf build dist .venv-wheel
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	@rm -rf build
	@$(PYTHON) -m venv .venv-wheel
	@.venv-wheel/bin/python $(PIP_INSTALL) -c constraints.txt dist/*.whl
	@cd "$$(mktemp -d)" && "$(CURDIR)/.venv-wheel/bin/python" -I "$(CURDIR)/tools/smoke_wheel.py" "$(CURDIR)"/dist/*.whl
	@rm -rf .venv-wheel

clean: ## Remove what builds and tools leave behind (environments stay)
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@rm -rf docs/_build docs/api/generated docs/auto_examples docs/sg_execution_times.rst
	@find skxmc tests examples benchmarks tools docs -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments: a stamp newer than the files it was made from means nothing to do -------------

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "skxmc needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-run: pyproject.toml constraints.txt | $(PY)
	@$(PY) $(PIP_INSTALL) -c constraints.txt setuptools
	@$(PY) $(PIP_INSTALL) -c constraints.txt $(EDITABLE) ".[plot,test]"
	@touch $@

$(VENV)/.stamp-%: $(VENV)/.stamp-run
	@$(PY) $(PIP_INSTALL) -c constraints.txt $(EDITABLE) ".[$*]"
	@touch $@

.venv-oldest/.stamp: pyproject.toml constraints-oldest.txt
	@rm -rf .venv-oldest
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python $(PIP_INSTALL) -c constraints-oldest.txt setuptools
	@.venv-oldest/bin/python $(PIP_INSTALL) -c constraints-oldest.txt $(EDITABLE) ".[plot,test]"
	@touch $@
