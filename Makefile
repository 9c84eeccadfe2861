# On a machine with Python 3.11 or newer, make and git, two commands do everything: `make demo` and `make test`.

PYTHON ?= python3
# How many processes the tests use, and what else pytest is told: `make test PYTEST_FLAGS="-k motion"`.
WORKERS ?= 2
PYTEST_FLAGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
# One file stays in one process, so that what its tests share is made once.
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(PYTEST_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check bench experiments clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | while IFS='	' read -r name text; do printf 'make %-10s %s\n' "$$name" "$$text"; done

demo: $(INSTALLED)  ## generate a small dataset, extract it, verify the shards, show a contact sheet
	$(BIN)/vidprep demo-data demo/data
	$(BIN)/vidprep extract --out demo/shards demo/data
	$(BIN)/vidprep verify demo/shards
	$(BIN)/vidprep stats demo/shards
	$(BIN)/vidprep inspect demo/shards --out demo/sheet.png
	@echo "The contact sheet is $(CURDIR)/demo/sheet.png"

test: check  ## run the checks and all tests but the slow ones
	$(PYTEST) -m "not slow"

test-slow: $(INSTALLED)  ## run the slow tests
	$(PYTEST) -m slow

check: $(INSTALLED)  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)  ## measure reading, extraction and loading; the README's numbers come from here
	$(BIN)/python tests/benchmarks/extract.py --readme README.md
	$(BIN)/python tests/benchmarks/loader.py --readme README.md
	$(BIN)/python tests/benchmarks/peers.py --readme README.md
	$(BIN)/python tests/benchmarks/sgs.py

# EGOGESTAR=FOLDER adds the real clips. Killed and told again, it goes on; two processes may share the seeds.
experiments: $(INSTALLED)  ## train the methods and their baselines; the tables of models/README.md come from here
	$(BIN)/python -m vidprep.pipelines.experiments_zoom experiments/zoom --readme models/README.md $(if $(EGOGESTAR),--egogestar "$(EGOGESTAR)")
	$(BIN)/python -m vidprep.pipelines.experiments_sgs experiments/sgs --readme models/README.md $(if $(EGOGESTAR),--egogestar "$(EGOGESTAR)")

clean:  ## remove the environment, the demo and all caches
	rm -rf .venv demo experiments build dist vidprep.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find vidprep models pipelines manifests tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Made once, and again when the dependencies change. Twice quiet: errors are shown, warnings about indexes are not.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "PYTHON=$(PYTHON) is not found: name a Python 3.11 or newer, as in: make PYTHON=python3.12 test" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit("PYTHON=$(PYTHON) is Python %d.%d, and vidprep needs 3.11 or newer: name one, as in: make PYTHON=python3.12 test" % v[:2] if v < (3, 11) else 0)'
	@echo "Making the environment in .venv: once, a few minutes, mostly the download of PyTorch"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
