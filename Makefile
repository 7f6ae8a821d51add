# `make` alone prints the available targets.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
# Directories with npm packages, and their installation markers.
CLIENTS := tools/interop tools/interop/openclaw-3
CLIENTS_INSTALLED := $(CLIENTS:%=%/node_modules/.installed)
AXE_INSTALLED := tests/browser/node_modules/.installed
OPENCLAW := .data/openclaw-package/node_modules/.installed
RUNS_OPENCLAW := $(if $(UPSTREAM_URL),,$(filter openclaw,$(UPSTREAM)))
RAILWAY_INSTALLED := .railway/node_modules/.installed
# Additional arguments for a target's tool: make test ARGS="-k heartbeat -x"
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run dashboard secrets test browser interop churn bench simulate capacity drill check docs railway \
  images compose-test lock clean

help: ## Print this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { \
	  if (length($$2) > 62) sub(/ \(/, sprintf("\n%20s(", ""), $$2); \
	  printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN) ## Start Redis, one approval and two gateways locally (UPSTREAM=openclaw: chat, too)
	$(if $(RUNS_OPENCLAW),@$(PY) -m deploy.local --check && $(MAKE) --no-print-directory --silent $(OPENCLAW))
	@$(PY) -m deploy.local

dashboard: $(RUN) ## Fetch OpenClaw's dashboard for make run; requires npm
	@$(PY) -m deploy.dashboard

secrets: ## Generate the secrets for docker-compose.yml (.env)
	@$(PYTHON) -m deploy.compose_secrets

test: $(DEV) ## Run the tests with a real Redis (ARGS="-k name")
	$(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

browser: $(DEV) $(AXE_INSTALLED) ## Test the pages in Chromium; requires Chromium, nginx, npm (ARGS=--pictures for docs/)
	@$(PY) -m deploy.dashboard
	$(PY) -m pytest -n 0 -o python_files='story_*.py' tests/browser $(ARGS)

interop: $(DEV) $(CLIENTS_INSTALLED) $(OPENCLAW) ## Test with OpenClaw's own clients; requires npm (ARGS="--rounds 1 --only cli")
	@$(PY) -m tools.interop $(ARGS)

simulate: $(DEV) ## Simulate gateways, approvals and faults (ARGS="--runs 100000 --jobs 2")
	@$(PY) -m tests.simulation $(ARGS)

churn: $(DEV) ## Load-test a gateway, by default a temporary one (ARGS="storm --connections 2000", ARGS=--help)
	@$(PY) -m tools.load $(ARGS)
drill: $(DEV) ## Inject faults under load; requires haproxy (ARGS="--rounds 3 --only killed")
	@$(PY) -m tools.drills $(ARGS)

bench: $(DEV) ## Compare admissions with a bare WebSocket server (ARGS="--rounds 9")
	@$(PY) -m tools.bench $(ARGS)

capacity: $(DEV) ## Estimate resources for 1 thousand to 1 million devices (ARGS=--storms to measure)
	@$(PY) -m tools.capacity $(ARGS)

check: $(DEV) ## Check format, lint, types, import rules and docs/reference
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) -m tools.docs --check

docs: $(DEV) ## Write docs/reference and the chart's schema from the code
	@$(PY) -m tools.kubernetes
	@$(PY) -m tools.docs

images: $(DEV) ## Build the container images; requires Docker (ARGS=--help)
	@$(PY) -m tools.images build $(ARGS)

compose-test: $(DEV) ## Test docker-compose.yml in containers; requires Docker (ARGS="--profile tls")
	@$(PY) -m tools.images test $(ARGS)

railway: $(RAILWAY_INSTALLED) ## Check the types of .railway/railway.ts; requires npm
	cd .railway && npx --no-install tsc --project .

# One file for all Python versions and platforms (--universal keeps markers such as python_version),
# with the hashes of all wheels and without package indexes.
LOCK = $(PY) -m uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links $(ARGS)

lock: $(DEV) ## Write the requirements files from pyproject.toml (ARGS=--upgrade to update)
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## Remove build products and caches; keep secrets and devices
	rm -rf $(VENV) .data/bin .data/dashboard .data/openclaw-package .data/logs .hypothesis .import_linter_cache .mypy_cache \
	  .pytest_cache .ruff_cache .schemathesis $(CLIENTS:%=%/node_modules) tests/browser/node_modules \
	  .railway/node_modules
	find deploy services shared tools tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------- the virtual environment

$(PY):
	@[ -w . ] || { \
	  echo "This directory is not writable, but $(VENV) and .data are created here." >&2; \
	  echo "Make it writable, or clone Latchkey elsewhere." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Latchkey needs Python 3.11 or newer, but $(PYTHON) is older or missing." >&2; \
	  echo "Select another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN): requirements.txt | $(PY)
	@echo "Installing Latchkey's dependencies into $(VENV) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt | $(PY)
	@echo "Installing dependencies of Latchkey and its tests into $(VENV) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# ---------------------------------------------------------------------- npm packages

# OpenClaw's clients include their own Node.js, because npm's may be too old for them.
$(CLIENTS_INSTALLED) $(AXE_INSTALLED) $(RAILWAY_INSTALLED): %/node_modules/.installed: %/package.json %/package-lock.json
	@npm --version >/dev/null 2>&1 || { \
	  echo "make $(MAKECMDGOALS) needs npm, but no working npm was found." >&2; \
	  echo "Install it: apt install npm, or brew install node" >&2; exit 1; }
	@echo "Installing the packages in $*/package.json ..."
	@cd $* && npm ci --ignore-scripts --loglevel=error
	@touch $@

# OpenClaw with its own Node.js, for make run UPSTREAM=openclaw.
$(OPENCLAW): deploy/openclaw/package.json deploy/openclaw/package-lock.json
	@npm --version >/dev/null 2>&1 || { \
	  echo "make run UPSTREAM=openclaw needs npm, but no working npm was found." >&2; \
	  echo "Install it: apt install npm, or brew install node" >&2; exit 1; }
	@echo "Installing OpenClaw into .data/openclaw-package (only once; about 850 MB, takes a minute or more) ..."
	@mkdir -p .data/openclaw-package
	@cp deploy/openclaw/package.json deploy/openclaw/package-lock.json deploy/openclaw/.npmrc .data/openclaw-package/
	@cd .data/openclaw-package && npm ci --ignore-scripts --loglevel=error
	@touch $@
