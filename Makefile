# Every target sets up what it needs first, in .venv and build/ alone.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
UV ?= $(shell uv --version >/dev/null 2>&1 && command -v uv)

INSTALLED := $(VENV)/.installed
COMPILED := build/.compiled
PXD := $(shell find proxy -name '*.pxd')
HOT := $(PXD) $(wildcard $(PXD:.pxd=.py))

# Parts of the development environment; CI adds deploy, the tools that tests/deploy asks.
EXTRAS ?= demo,dev,loadtest
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
LOADTEST_ARGS ?=

# Most tests wait: three files at a time, each worker with a Postgres of its own.
ALL_AT_ONCE := -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check bench loadtest build docs clean

help: ## say what there is to do
	@echo 'make TARGET, where TARGET is one of'
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r t d; do printf '  %-9s%s\n' "$$t" "$$d"; done

demo: $(COMPILED) ## 500 simulated functions on 20 connections of an embedded Postgres (DEMO_ARGS=...)
	$(BIN)/pgfunnel demo $(DEMO_ARGS)

test: $(COMPILED) ## run every test; with TEST_ARGS=... only what pytest is told to
ifeq ($(strip $(TEST_ARGS)),)
	$(BIN)/python -m pytest $(ALL_AT_ONCE)
	PGFUNNEL_PURE=1 $(BIN)/python -m pytest $(ALL_AT_ONCE) tests/unit tests/property
else
	$(BIN)/python -m pytest $(TEST_ARGS)
endif

check: $(INSTALLED) ## format, lint, types, layers, and whether generated docs are current
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/pgfunnel settings --markdown | diff -u docs/settings.md - && \
	$(BIN)/pgfunnel settings --example | diff -u docs/pgfunnel.example.toml - && \
	$(BIN)/python -m proxy.settings.compatibility | diff -u docs/compatibility.md - && \
	$(BIN)/python -m proxy.admin.reference | diff -u docs/console.md - && \
	$(BIN)/python -m proxy.web.metrics_page | diff -u docs/metrics.md - || \
	{ echo 'the generated docs are out of date: run make docs' >&2; exit 1; }

bench: $(COMPILED) ## measure against PgBouncer (BENCH_ARGS=...)
	$(BIN)/python -m loadtest.bench $(BENCH_ARGS)

loadtest: $(COMPILED) ## functions on 75 connections: straight, PgBouncer, pgfunnel; a report (LOADTEST_ARGS=...)
	$(BIN)/python -m loadtest.lab $(LOADTEST_ARGS)

build: $(INSTALLED) ## compile the hot modules in place; a failure is an error
	PGFUNNEL_PURE=0 $(BIN)/python setup.py --quiet build_ext --inplace
	@touch $(COMPILED)

docs: $(INSTALLED) ## write the generated docs (settings, an example, PgBouncer's, console, metrics) and the chart's schema
	$(BIN)/pgfunnel settings --markdown > docs/settings.md
	$(BIN)/pgfunnel settings --example > docs/pgfunnel.example.toml
	$(BIN)/python -m proxy.settings.compatibility > docs/compatibility.md
	$(BIN)/python -m proxy.admin.reference > docs/console.md
	$(BIN)/python -m proxy.web.metrics_page > docs/metrics.md
	$(BIN)/python -m tests.deploy.chart_schema

clean: ## remove what was built, .venv included
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find proxy loadtest tests -name '__pycache__' -prune -exec rm -rf {} +
	find proxy -name '*.so' -delete

# Uncompiled at first: compiling in place, below, is incremental and uses the same Cython.
$(INSTALLED): pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo 'pgfunnel needs Python 3.11 or newer: install it, or name it with make PYTHON=...' >&2; exit 1; }
ifneq ($(UV),)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	PGFUNNEL_PURE=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --editable '.[$(EXTRAS)]'
else
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make virtual environments: install python3-venv (Debian, Ubuntu), or uv" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	PGFUNNEL_PURE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
endif
	@touch $@

$(COMPILED): $(INSTALLED) setup.py $(HOT)
	PGFUNNEL_PURE= $(BIN)/python setup.py --quiet build_ext --inplace
	@mkdir -p $(@D) && touch $@
