# The two commands are `make demo` and `make test`; both do all the set-up themselves, as often as you like.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := var/.tools-4
NPM := $(patsubst %,var/.npm/%/node_modules/.package-lock.json,receipts c2pa)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: $(READY) ## The main job, told step by step (VIDEO=me.mp4 for your own footage)
	@$(BIN)/countersign demo $(if $(VIDEO),--video "$(VIDEO)")

serve: $(READY) ## Run the service on http://localhost:8460
	@$(BIN)/countersign serve

test: $(READY) $(TOOLS) $(NPM) ## The whole suite: lint, types, every test
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n 3 --dist loadfile

check: $(READY) ## Lint, types and the fast tests, in under two minutes
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n 3 -q --dist loadfile -m "not slow"

lint: $(READY) ## Ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-browser: $(READY) $(TOOLS) ## The journeys in a real browser; screenshots under var/screenshots
	$(BIN)/pytest -n 3 --dist loadfile tests/test_browser.py tests/test_journeys.py tests/test_pages.py tests/test_passkey_browser.py

setup: $(READY) $(TOOLS) $(NPM) ## Only the set-up

lock: ## Pin everything, with hashes, from what the environment now holds
	@$(BIN)/pip install -q uv
	@mkdir -p var && $(BIN)/pip freeze --all --exclude-editable --exclude torch --exclude uv --exclude pip > var/lock.in
	@$(BIN)/uv pip compile -q --no-deps --generate-hashes --no-annotate --no-header var/lock.in -o requirements.lock

clean: ## Remove the environment and everything the service stored
	rm -rf $(VENV) var .hypothesis .mypy_cache .ruff_cache .pytest_cache

# The CPU build of torch first: resolved later it would come with gigabytes of CUDA. --no-deps, because
# face-recognition asks for a `dlib` that takes 12 minutes to build, where the dlib-bin wheel provides it.
$(READY): pyproject.toml requirements.lock
	@echo "1/3 virtual environment"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "2/3 torch (CPU)"
	@$(BIN)/pip install -q "torch==2.13.0"
	@echo "3/3 packages, pinned by hash"
	@$(BIN)/pip install -q --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

# What other people's tools check us with: Go's checksum-database code, a browser, OpenSSL, libraries for COSE and C2PA
# of npm's, a voice that reads digits aloud in the films that tests make, and a PKCS#11 token made of software.
$(TOOLS):
	@mkdir -p var
	@need=""; \
	command -v go >/dev/null && test -d /usr/share/gocode/src/golang.org/x/mod/sumdb || need="golang-go golang-golang-x-mod-dev"; \
	command -v chromium >/dev/null || need="$$need chromium"; \
	command -v openssl >/dev/null || need="$$need openssl"; \
	command -v npm >/dev/null || need="$$need nodejs npm"; \
	command -v espeak-ng >/dev/null || need="$$need espeak-ng"; \
	command -v softhsm2-util >/dev/null || need="$$need softhsm2"; \
	if test -n "$$need"; then \
	  echo "installing from Debian:$$need"; \
	  sudo=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$need >/dev/null; \
	fi
	@touch $@

$(NPM): var/.npm/%/node_modules/.package-lock.json: tests/interop/%/package-lock.json $(TOOLS)
	@mkdir -p var/.npm/$* && cp tests/interop/$*/package*.json var/.npm/$*/
	@cd var/.npm/$* && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

.PHONY: help demo serve test check lint test-browser setup lock clean
