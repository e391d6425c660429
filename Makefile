# `make demo` and `make test` need only a bare Python. Both write to .venv only, and `make bench` to $(BENCH).

PYTHON ?= python3
VENV ?= .venv
BENCH ?= .venv-bench
MINUTES ?= 40
CASES ?= 10000
WORKERS ?= auto
BIN := $(VENV)/bin
PIP_INSTALL ?= $(BIN)/python -m pip install --quiet
ADAPTERS := -e integrations/llama-index-postprocessor-rag-rerank -e integrations/langchain-rag-rerank
HAYSTACK := -e integrations/haystack-rag-rerank
MULTILINGUAL := -e integrations/rag-rerank-multilingual
PROJECTS := pyproject.toml $(wildcard integrations/*/pyproject.toml)

# The PyTorch version that the golden tests were run with; other versions of Python get the newest one.
TORCH = $(shell $(BIN)/python -c 'import sys; print("torch==2.13.0" if sys.version_info[:2] == (3, 11) else "torch")')

.PHONY: demo test check style types public-types docs generate pictures faults install bench release-check release-renew clean

demo: $(VENV)/.demo  ## BM25, then the embedded reranker, on real text; no torch, no key, no network
	$(BIN)/python cookbook/demo.py

test: $(VENV)/.all  ## all tests, those of the adapters and the notebooks included
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal

check: style types public-types  ## style and types, those that users of the public names see included

style: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.all
	$(BIN)/mypy
	$(BIN)/mypy tests/typing

public-types: $(VENV)/.all
	PATH="$(abspath $(BIN)):$$PATH" pyright
	$(BIN)/python tests/typing/completeness.py

docs: $(VENV)/.docs  ## the documentation site, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

generate: $(VENV)/.all  ## the reference pages, tables and diagrams that are made from the code
	$(BIN)/python docs/tools/generate.py

pictures: $(VENV)/.all  ## the pictures of the pages, taken from real calls with chromium
	$(BIN)/python docs/tools/pictures.py

faults: $(VENV)/.all  ## the promises of docs/explanation/reliability.md, checked over $(CASES) random trees and faults
	$(BIN)/python tests/faults/run.py --cases $(CASES)

install: $(VENV)/.all  ## everything, torch included

bench:  ## speed beside that of peers, each in an environment of its own; needs some 6 GB and $(MINUTES) minutes
	$(PYTHON) -m benchmarks.speed install $(BENCH)
	$(BENCH)/env/torch/bin/python -m benchmarks.speed run $(BENCH) --minutes $(MINUTES)
	$(BENCH)/env/torch/bin/python -m benchmarks.speed render

release-check: $(VENV)/.release  ## whether a release could go out; its files are then in dist/; ITEMS= checks only these
	PYTHONPATH=.ci $(BIN)/python -m release $(ITEMS)

release-renew: $(VENV)/.release  ## the lock of CI and the page of licences, for a release
	PYTHONPATH=.ci $(BIN)/python -m release --renew

clean:
	rm -rf $(VENV) build dist site

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	touch $@

$(VENV)/.demo: $(VENV)/.pip $(PROJECTS)
	$(PIP_INSTALL) -e . $(ADAPTERS)
	touch $@

$(VENV)/.docs: $(VENV)/.pip $(PROJECTS)
	$(PIP_INSTALL) -e . $(ADAPTERS) $(HAYSTACK) --group docs
	touch $@

$(VENV)/.release: $(VENV)/.all
	$(PIP_INSTALL) --group release
	touch $@

$(VENV)/.all: $(VENV)/.pip $(PROJECTS)
	$(PIP_INSTALL) "$(TORCH)"
	$(PIP_INSTALL) -e ".[all]" $(ADAPTERS) $(HAYSTACK) $(MULTILINGUAL) --group dev --group docs --group cookbook \
		--group integrations/llama-index-postprocessor-rag-rerank/pyproject.toml:dev \
		--group integrations/langchain-rag-rerank/pyproject.toml:test
	touch $@
