# Needs make and Python 3.11 or later with its venv module; everything else is installed into .venv and .tools.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint bench lock clean

PYTHON := .venv/bin/python
INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" .tools/lock/bin/pip-compile --quiet --upgrade --generate-hashes \
  --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

# A virtual environment outlives neither its Python nor a failed start: begin anew.
$(shell test -x $(PYTHON) || rm -rf .venv)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

run: .venv/runtime.stamp ## Serve: CONFIG=otp.toml, or without it a demo that keeps all in memory
	@exec $(PYTHON) -m service serve $(CONFIG)

test: lint ## Lint, then run all tests, with a real Redis, Prometheus and Chromium too; ARGS="-k words" chooses
	@redis=$$(tests/find-redis) && prometheus=$$(tests/find-prometheus) && chromium=$$(tests/find-chromium) && \
	  VERIFYD_TEST_REDIS=$$redis VERIFYD_TEST_PROMETHEUS=$$prometheus VERIFYD_TEST_CHROMIUM=$$chromium \
	  exec $(PYTHON) -m pytest $(ARGS)

lint: .venv/dev.stamp ## Check style, formatting and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

bench: .venv/dev.stamp ## Measure, on a real Redis server
	@redis=$$(tests/find-redis) && VERIFYD_TEST_REDIS=$$redis exec $(PYTHON) -m tests.bench $(ARGS)

# Compiled by the oldest Python supported, because older ones need more packages, and redis needs async-timeout before
# 3.11.3. What serves is chosen first; the tools adapt to it.
lock: ## Upgrade the pinned packages to their newest; needs Python 3.11
	python3.11 -m venv --clear .tools/lock
	.tools/lock/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip pip-tools
	.tools/lock/bin/python -c "import tomllib; \
	  print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['dev'], sep='\n')" >.tools/lock/dev.in
	echo async-timeout >.tools/lock/oldest.in
	$(COMPILE) --extra otel --output-file requirements.lock pyproject.toml .tools/lock/oldest.in
	$(COMPILE) --output-file requirements-dev.lock --constraint requirements.lock pyproject.toml .tools/lock/*.in
	$(COMPILE) --output-file requirements-build.lock --constraint requirements-dev.lock \
	  --build-deps-for editable --only-build-deps pyproject.toml

clean: ## Remove everything that was installed, built or cached here
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis build dist
	find service tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/pyvenv.cfg:
	@for python in python3.13 python3.12 python3.11 python3; do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  $$python -c 'import ensurepip' 2>/dev/null || { bare="$$python"; continue; }; \
	  exec $$python -m venv .venv; \
	done; \
	if [ "$$bare" ]; then echo "$$bare cannot make a virtual environment: install its venv package" \
	  "(Debian and Ubuntu: apt-get install python3-venv)."; \
	else echo "Python 3.11 or later is needed, and none is on PATH."; fi >&2; exit 1

.venv/runtime.stamp: requirements.lock requirements-build.lock pyproject.toml .venv/pyvenv.cfg
	$(INSTALL) --require-hashes --requirement requirements.lock --requirement requirements-build.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/runtime.stamp
	$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@touch $@
