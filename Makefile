# Everything runs in .venv, which is made from requirements.lock (versions and hashes pinned).
# Needed beforehand: Python 3.10 or newer with venv and pip, git, make.

PYTHON ?= python3
VENV ?= .venv
UV_VERSION := 0.13.9
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo test test-cluster test-pythons lint format lock clean

demo: $(INSTALLED) ## index sample videos, ask questions with known answers, write demo/page.html
	$(BIN)/python examples/demo.py

# Tests of one file stay in one process, which makes what they share once; long files come first.
test: $(INSTALLED) ## the test suite: no network, on all cores
	.ci/in-memory $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 \
	  --dist loadfile --no-loadscope-reorder -m "not cluster_failures"

test-cluster: $(INSTALLED) ## kills processes of a Ray on this machine, for minutes
	$(BIN)/python -m pytest -m cluster tests/indexing/cluster tests/serving/cluster

test-pythons: ## the test suite on each Python from 3.10 on that is found, one after the other
	@set -e; for python in $$(.ci/pythons); do \
	  echo "== $$python: $$($$python --version)"; \
	  $(MAKE) test PYTHON=$$python VENV=.venv-$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	done

lint: $(INSTALLED) ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED) ## choose versions anew after a change of pyproject.toml
	$(BIN)/uv pip compile --system-certs pyproject.toml --all-extras --group dev --universal \
	  --python-version 3.10 --fork-strategy fewest --generate-hashes --no-annotate --no-header --upgrade \
	  --quiet --output-file requirements.lock

clean:
	rm -rf .venv .venv-3.* demo build *.egg-info

# The lock serves as a constraint: it fixes version and hash of whatever pyproject.toml asks for.
# Bytecode is compiled now, so that the first command need not.
$(INSTALLED): pyproject.toml requirements.lock requirements-mini.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip install --system-certs --python $(BIN)/python --constraint requirements.lock \
	  --compile-bytecode --group dev --editable '.[cluster,demo,editing,entities,lexical,ocr,openvino,parquet,query,ranker,recommend,redis,remote,serve,shots,speech,train]'
	$(BIN)/uv pip install --system-certs --python $(BIN)/python --no-deps --requirement requirements-mini.txt
	touch $@
