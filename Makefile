PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
WORKERS ?= 2
MINUTES ?= 3

BIN := .venv/bin
VENDOR := stateful_agent/server/page/vendor
ALONE := sed -e '/^\/\/. sourceMappingURL/d' -e 's/from"preact"/from".\/preact.js"/'
CODE := agent.py $(shell find stateful_agent -type f -not -name '*.pyc')
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR ?= false
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/.local/mlflow.db

help:  ## Show what there is to make
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

serve: .local/model  ## Log the agent if it has changed, and serve the logged model (HOST=, PORT=, WORKERS=)
	@exec $(BIN)/stateful-agent serve "$$(cat .local/model)" --host $(HOST) --port $(PORT) --workers $(WORKERS)

test: .venv/dev  ## Check style and types, and run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

faults: .venv/dev  ## Kill servers, stop the database, hang up; then let clients talk meanwhile, and count losses (MINUTES=3)
	$(BIN)/pytest --dist loadfile tests/faults
	PYTHONPATH=.:tests:tests/faults $(BIN)/python -m soak --minutes $(MINUTES)

processes: .venv/dev  ## Start servers, build the library, log and deploy agents, follow the docs, run the notebooks
	$(BIN)/pytest tests/processes

clients: .venv/dev .local/clients/ready  ## Run other people's clients against the served agent
	$(BIN)/pytest -n 0 -vv tests/clients

page: .venv/dev  ## Look at the page for time travel in a real browser: Debian's Chromium, which root installs if need be
	$(BIN)/pytest tests/page

bench: .venv/ready  ## Measure what everything costs, beside other designs, into benchmarks/results.md (15 minutes)
	$(BIN)/python -m benchmarks --into benchmarks

format: .venv/dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

requirements: .venv/bin/uv .local/clients/ready  ## Resolve pyproject.toml into the pinned requirements*.txt, and the clients
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 pyproject.toml --extra all -o requirements.txt \
	  --custom-compile-command "make requirements"
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 pyproject.toml --extra all \
	  --extra dev -c requirements.txt -o requirements-dev.txt --custom-compile-command "make requirements"
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 tests/clients/requirements.in \
	  -o tests/clients/requirements.txt --custom-compile-command "make requirements"
	PATH="$(CURDIR)/.local/clients/bin:$$PATH" npm update --package-lock-only --no-audit --no-fund --prefix tests/clients

vendor: .local/clients/ready  ## Copy the libraries of the page for time travel from npm, in the versions of its lock file
	cd $(VENDOR) && PATH="$(CURDIR)/.local/clients/bin:$$PATH" npm ci --silent --no-audit --no-fund --omit optional
	cd $(VENDOR)/node_modules && $(ALONE) preact/dist/preact.mjs > ../preact.js && $(ALONE) preact/hooks/dist/hooks.mjs > ../hooks.js \
	  && $(ALONE) htm/dist/htm.mjs > ../htm.js && $(ALONE) marked/lib/marked.esm.js > ../marked.js \
	  && $(ALONE) dompurify/dist/purify.es.mjs > ../dompurify.js \
	  && for library in preact htm marked dompurify; do cp $$library/LICENSE ../$$library.LICENSE; done
	rm -r $(VENDOR)/node_modules

clean:  ## Remove the environment, the logged models, and the conversations
	rm -rf .venv .local mlruns tests/clients/node_modules

.local/model: .venv/ready $(CODE) requirements.txt log_and_deploy.py
	$(BIN)/python log_and_deploy.py log --path-file .local/model

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; name it as in: make serve PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

.venv/ready: .venv/bin/uv requirements.txt pyproject.toml
	@echo "Installing what requirements.txt lists, once ..."
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -r requirements.txt -c requirements-dev.txt databricks-agents
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --editable .
	@touch $@

.venv/dev: .venv/ready requirements-dev.txt
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -r requirements-dev.txt
	@touch $@

# Node comes from PyPI as well: with nothing but Python on the machine, all clients are there.
.local/clients/ready: .venv/bin/uv tests/clients/requirements.txt tests/clients/package-lock.json
	@echo "Installing the clients, once ..."
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .local/clients \
	  && $(BIN)/uv pip install --python .local/clients/bin/python -r tests/clients/requirements.txt \
	  && PATH="$(CURDIR)/.local/clients/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --prefix tests/clients \
	  && touch $@ \
	  || { test -z "$$CI" && echo "Those that cannot be installed here are skipped."; }

.PHONY: help serve test faults processes clients page bench vendor format requirements clean
