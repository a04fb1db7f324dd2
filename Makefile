# Every target does its own set-up: a virtual environment in .venv, filled the first time it is needed and
# again only when pyproject.toml or constraints.txt changes. After that nothing here needs a network.
# PYTHON=/path/to/python3 chooses the interpreter; WORKERS=4 runs the tests in four processes.

VENV := .venv
WORKERS ?= 2
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
USABLE := -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
# Two names for one file: pip before 25.3 applies the first to the build backend too, later ones want the second.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	$(BIN)/python -m pip

# Compiles the engine's kernels where they are not on disk, which takes a minute after a change of the engine. What can
# do without them goes on when it fails; the tests insist on them, and must not each compile their own.
WARM := $(BIN)/python -m chainrule_engine.warm

# A caller's PYTHONPATH could put another copy of chainrule before this one.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo serve test test-torch test-browser coverage lint format check bench openapi \
	accuracy wheel constraints vendor hooks clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------------------- set-up

# One stamp per extra, written only after pip has finished; an extra that contains others vouches for them too.
CONTAINS_dev := service
CONTAINS_torch := dev service
CONTAINS_bench := service
CONTAINS_browser := dev service
$(VENV)/.installed-%: pyproject.toml constraints.txt
	@$(BIN)/python $(USABLE) && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		for python in $(CANDIDATES); do \
			if "$$python" $(USABLE); then \
				echo "Making a virtual environment in $(VENV) with $$("$$python" --version)"; \
				"$$python" -m venv --clear $(VENV); exit $$?; \
			fi; \
		done; \
		echo "chainrule needs Python 3.11 or newer with its venv module (on Debian: the package python3-venv)." >&2; \
		echo "Tried: $(CANDIDATES). Name another one with: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
		exit 1; \
	}
	@rm -f $@ $(CONTAINS_$*:%=$(VENV)/.installed-%)
	@echo "Installing chainrule[$*] and what it needs into $(VENV) (a minute or two, once)"
	@$(PIP) install --quiet --editable '.[$*]'
	-@$(WARM)
	@touch $@ $(CONTAINS_$*:%=$(VENV)/.installed-%)

install: $(VENV)/.installed-service ## Install the service, the engine and the client into .venv

# ----------------------------------------------------------------------------------------------------- running

demo: $(VENV)/.installed-service ## Start the service, train micrograd's moons network over HTTP, draw what it learnt
	-@$(WARM)
	$(BIN)/python examples/moons.py

serve: $(VENV)/.installed-service ## Start the service on http://127.0.0.1:8000 (settings: CHAINRULE_PORT and others)
	-@$(WARM)
	$(BIN)/chainrule serve

bench: $(VENV)/.installed-bench ## Measure the figures that the README states, beside the peers (about ten minutes)
	@$(WARM)
	$(BIN)/python -m benchmarks

# ---------------------------------------------------------------------------------------------------- checking

# An idle worker takes tests from the other: a few long ones stand in one file.
PARALLEL := -n $(WORKERS) --dist worksteal

test: $(VENV)/.installed-dev ## Run the tests (all but the PyTorch and browser ones)
	@$(WARM)
	$(BIN)/python -m pytest -q $(PARALLEL)

test-torch: $(VENV)/.installed-torch ## Compare every operation and the training with PyTorch
	@$(WARM)
	$(BIN)/python -m pytest -q -m torch

test-browser: $(VENV)/.installed-browser ## Drive the pages with the system's Chromium
	$(BIN)/python -m pytest -q -m browser

coverage: $(VENV)/.installed-dev ## Run the engine's tests, but for the slow ones, and require 95 % of its branches
	@$(WARM)
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow and not torch and not browser" tests/engine --cov --cov-report=term

lint: $(VENV)/.installed-dev ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev ## Mend style and order of imports
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

check: ## Run all that CI runs
	bash .ci/run

# ----------------------------------------------------------------------------------------------- generated files

openapi: $(VENV)/.installed-service ## Write docs/openapi.json anew from the code
	$(BIN)/chainrule openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

accuracy: $(VENV)/.installed-dev ## Measure the error of every operation anew and write docs/accuracy.md (some minutes)
	$(BIN)/python tools/accuracy.py

wheel: $(VENV)/.installed-service ## Write dist/chainrule-….whl, which pip installs anywhere without this checkout
	rm -f dist/chainrule-*.whl
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .

# The oldest supported Python chooses, so that the newer ones can install the same versions.
constraints: ## Write constraints.txt anew with the newest versions (needs Python 3.11 and a network)
	rm -rf build/constraints
	$(or $(PYTHON),python3.11) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet hatchling editables --editable '.[bench,browser,torch]'
	{ echo '# Exact versions of all that chainrule is built, tested and shipped with. Written by: make constraints'; \
		build/constraints/bin/python -m pip freeze --exclude-editable | sed 's/+.*//'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt
	rm -rf build/constraints

vendor: $(VENV)/.installed-dev ## Fetch the browser assets that vendor.toml names (needs npm and a network)
	$(BIN)/python tools/vendor.py

hooks: $(VENV)/.installed-dev ## Check style before each commit
	$(BIN)/pre-commit install

clean: ## Remove the virtual environment and everything that was built
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache \
		.ruff_cache
	find engine service client tests tools examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
