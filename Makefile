# Everything a developer does, by name. Needs Python 3.11 to 3.13 with pip and venv, and nothing else.

PYTHON ?= python3
PORT   ?= 8080

VENV  := .venv
BIN   := $(VENV)/bin
TOOLS := .local/tools
UV    := $(TOOLS)/bin/uv
READY := $(VENV)/.ready

export SAM_CLI_TELEMETRY := 0
export PORT

.DEFAULT_GOAL := help
.PHONY: help install dev test check audit bench chaos import-ics openapi schemas release-schemas build deploy clean

help: ## List these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

install: $(READY) ## Install what is missing into .venv

$(UV):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Events Platform needs Python 3.11, 3.12 or 3.13; $(PYTHON) is %d.%d. Name another one: make PYTHON=/path/to/python3.13" % v)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing uv"
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"

$(READY): $(UV) pyproject.toml uv.lock
	@echo "Installing the locked dependencies into $(VENV)"
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync --frozen --quiet --python "$$($(TOOLS)/bin/python -c 'import sys; print(sys._base_executable)')"
	@touch $(READY)

dev: $(READY) ## Run the whole platform on this machine (PORT=8080, DEMO=0 to skip the demo data)
	@$(BIN)/python -m local dev

test: $(READY) ## Run every test against the real embedded engines
	@$(BIN)/pytest $(ARGS)

check: $(READY) ## Formatting, lint, types, import rules, template rules, then the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sam validate --lint --region us-east-1
	@$(MAKE) --no-print-directory test

audit: $(READY) ## Look up known vulnerabilities of what is deployed (needs the internet)
	@$(UV) export --quiet --frozen --no-default-groups --no-emit-project --no-header --output-file .local/audited.txt
	@$(UV) tool run pip-audit --strict --disable-pip --require-hashes --requirement .local/audited.txt

bench: $(READY) ## Measure, each figure beside a reference measured in the same run
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync --frozen --quiet --inexact --group bench
	@$(BIN)/python -m tests.load $(ARGS)

chaos: $(READY) ## Messages both ways while all that carries them is killed, frozen and cut off (MESSAGES=100000)
	@CHAOS_MESSAGES="$(or $(MESSAGES),100000)" $(BIN)/pytest tests/e2e/test_chaos.py $(ARGS)

import-ics: $(READY) ## Publish the events of an iCalendar file: FILE=… EMAIL=… PASSWORD=…
	@test -n "$(FILE)" || { echo "Which file? make import-ics FILE=calendar.ics EMAIL=you@example.org PASSWORD=…"; exit 2; }
	@EVENTS_PLATFORM_PASSWORD="$(PASSWORD)" $(BIN)/python -m local import-ics "$(FILE)" --email "$(EMAIL)" --api "http://127.0.0.1:$(PORT)"

openapi: $(READY) ## Write docs/api/openapi.json anew
	@$(BIN)/python -m local openapi > docs/api/openapi.json

schemas: $(READY) ## Write the JSON Schemas of messages anew
	@$(BIN)/python -m local schemas

release-schemas: $(READY) ## Keep the messages' schemas as the released ones, if they are compatible
	@$(BIN)/python -m local schemas --release

# Of the functions' version, for bytecode in the layers; without one they start slower.
PYTHON_3_13 ?= $(shell $(UV) python find --no-project --no-python-downloads 3.13 2>/dev/null)

build: $(READY) ## SAM artifacts for arm64 and Python 3.13
	@$(UV) export --quiet --frozen --no-default-groups --no-emit-project --no-header --output-file layers/dependencies/requirements.txt
	@UV="$(abspath $(UV))" PYTHON_3_13="$(PYTHON_3_13)" $(BIN)/sam build
	@du --summarize --bytes --total .aws-sam/build/*Layer | awk 'END { printf "%.1f of 262.1 MB in layers\n", $$1 / 1e6; exit $$1 > 260e6 }'

deploy: build ## Deploy to AWS, asking for what it needs
	$(BIN)/sam deploy --guided

clean: ## Remove what was built; keeps the local platform's data
	rm -rf .aws-sam .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
