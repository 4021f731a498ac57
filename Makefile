# Everything runs in .venv, which is made on first use; extras are reinstalled when pyproject.toml changes.

PYTHON ?= python3
ARGS ?=
unexport PYTHONDONTWRITEBYTECODE  # kept bytecode saves each process of the tests seconds

VENV := .venv
BIN := $(VENV)/bin
# A worker that crashes ends the run: xdist gives the next one a single test, and both would wait for ever.
PYTEST := $(BIN)/pytest -n auto --dist loadgroup --max-worker-restart 0

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test learn pages all docs laws sweeps random modes kills fuzz coverage lint types format check bench parity clean

help: ## List these commands; ARGS="..." is passed on by demo, test, learn, laws, fuzz and bench
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/examples.installed ## A weather forecast, a duel of speed and a packed batch (two minutes)
	$(BIN)/python -m examples.demo $(ARGS)

test: $(VENV)/test.installed $(VENV)/examples.installed ## Run the tests (about five minutes on two cores)
	$(PYTEST) --ignore tests/examples --ignore tests/benchmarks $(ARGS)

learn: $(VENV)/test.installed $(VENV)/examples.installed ## Run the tests that take long: training, sweeps
	$(PYTEST) -m learn $(ARGS)

pages: $(VENV)/test.installed $(VENV)/examples.installed ## Run the code of docs and docstrings, test examples and benchmarks
	$(PYTEST) README.md docs jaxseq tests/examples tests/benchmarks $(ARGS)

all: $(VENV)/test.installed $(VENV)/examples.installed ## Run what test, learn and pages run, in one go
	$(PYTEST) -m "learn or not learn" README.md docs jaxseq tests $(ARGS)

docs: $(VENV)/docs.installed ## Build the site into docs/_build/html
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --jobs auto docs docs/_build/html $(ARGS)

laws: $(VENV)/test.installed ## Run the full battery of laws on every cell and kernel
	JAXSEQ_LAWS=full $(PYTEST) tests/test_contract.py tests/recurrences/test_sweep.py $(ARGS)
	JAXSEQ_LAWS=optimised $(PYTEST) tests/test_contract.py $(ARGS)

sweeps: $(VENV)/test.installed $(VENV)/examples.installed ## Run every case of the sweeps of which `make learn` runs a part
	JAXSEQ_LAWS=full $(PYTEST) -m sweep --ignore tests/modes $(ARGS)

random: $(VENV)/test.installed ## Draw 200 random nets for each library of interop, and a hundred random cells for native loops
	JAXSEQ_LAWS=full $(PYTEST) -m learn tests/interop tests/parity tests/native -k "random or thousands" $(ARGS)

modes: $(VENV)/test.installed $(VENV)/examples.installed ## Call every public function in each of JAX's modes, and lower it and every cell for cuda and tpu
	JAXSEQ_LAWS=full $(PYTEST) -m "learn or not learn" tests/modes $(ARGS)

kills: $(VENV)/test.installed ## Kill 160 training processes, alone and together, and see them go on to the same bits
	JAXSEQ_KILLS=full $(BIN)/python -m pytest -m "learn or not learn" -s tests/train/test_kills.py

fuzz: $(VENV)/test.installed $(VENV)/examples.installed ## Make ten thousand spoiled calls and judge what comes of each
	$(BIN)/python -m tests.fuzz $(ARGS)

coverage: $(VENV)/test.installed $(VENV)/examples.installed $(VENV)/dev.installed ## Run the tests and print which lines of jaxseq they reach
	$(PYTEST) --ignore tests/examples --ignore tests/benchmarks --cov jaxseq --cov-report term-missing:skip-covered --cov-fail-under 95 $(ARGS)

lint: $(VENV)/dev.installed ## Check style and format
	@$(BIN)/ruff check; style=$$?; $(BIN)/ruff format --check && exit $$style

types: $(VENV)/dev.installed $(VENV)/test.installed $(VENV)/examples.installed $(VENV)/parity.installed ## Check types, also of what speaks to PyTorch and other peers
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/dev.installed ## Sort imports and format
	$(BIN)/ruff check --select I --fix-only
	$(BIN)/ruff format

check: lint types test ## Check everything: lint, types, test

bench: $(VENV)/bench.installed ## Run the benchmark suite, or with BENCH=fit that file of benchmarks/
	$(BIN)/python -m benchmarks$(BENCH:%=.%) $(ARGS)

parity: $(VENV)/parity.installed ## Install PyTorch, Keras, hmmlearn and others, which the parity tests compare with

clean: ## Remove .venv, caches and builds
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each extra.
$(VENV)/%.installed: pyproject.toml | $(BIN)/pip
	@echo "installing jaxseq[$*] into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"jaxseq needs Python 3.11 or newer, and $(PYTHON) is older; name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
