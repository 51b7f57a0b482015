# Two commands: `make demo` and `make test`. Everything is installed into .venv, and what is loaded goes to data.
PYTHON ?= python3
BIN := .venv/bin
DATA := $(abspath $(or $(ETL_DATA_DIR),data))
CELLS ?= all
export DAGSTER_HOME := $(DATA)/dagster
unexport PYTHONDONTWRITEBYTECODE  # modules are compiled once, not by each process
export NO_GCE_CHECK := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test check format dev bench benchsql long bigquery chaos ui clean

# make demo WAREHOUSE=bigquery: the same on emulators of BigQuery and Cloud Storage, which the tests bring along.
# Simulated rows go nowhere else: neither `demo` nor `dev` reads .env, and Dagster reads it where it is started.
demo: $(if $(filter bigquery,$(WAREHOUSE)),.venv/.test,.venv/.base) $(DAGSTER_HOME)/dagster.yaml
	@ETL_ENV_FILE=/dev/null ETL_SOURCES_DIR= etl-assets sandbox $(if $(filter bigquery,$(WAREHOUSE)),--google) -- python -m etl_assets.defs.demo

test: .venv/.test
	@python -m pytest -n auto --dist worksteal

check: .venv/.test
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	python -m pytest -n auto --dist worksteal

format: .venv/.test
	ruff format .
	ruff check --fix .

dev: .venv/.base $(DAGSTER_HOME)/dagster.yaml
	@cd "$(DATA)" && ETL_ENV_FILE=/dev/null ETL_DATA_DIR="$(DATA)" ETL_SOURCES_DIR="$(abspath $(ETL_SOURCES_DIR))" \
	ETL_WAREHOUSE= ETL_LANDING= DUCKDB_PATH= etl-assets sandbox --days 30 -- dagster dev -w "$(CURDIR)/workspace.yaml" -h 127.0.0.1 -p 3000

bench: .venv/.base
	@python bench/bench.py

# Beside shillelagh, which the tests' environment brings.
benchsql: .venv/.test
	@python bench/sql.py

chaos: .venv/.test
	@python -m pytest etl_assets_tests/chaos -n auto --dist worksteal -m $(if $(filter smoke,$(CELLS)),smoke,chaos) -q

# The long matrices of `make test`: every script, every random statement, a thousand files.
long: .venv/.test
	@python -m pytest -n auto --dist worksteal -m "slow and not (chaos or ui or bigquery)" -q

# All that runs on emulators of BigQuery and Cloud Storage: both warehouses alike, every call killed, a million rows.
bigquery: .venv/.test
	@python -m pytest -n auto --dist worksteal -m "bigquery$(if $(filter smoke,$(CELLS)), and not slow)" -q

# The web UI in a browser, and a backfill of 30 days started there.
ui: .venv/.test
	@python -m pytest etl_assets_tests/orchestration -m ui -q

clean:
	rm -rf .venv data bench/*result.json

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv

.venv/.base: requirements.lock pyproject.toml | .venv/bin/python
	python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/.test: requirements-test.lock .venv/.base
	python -m pip install --quiet --disable-pip-version-check -r requirements-test.lock
	@touch $@

$(DAGSTER_HOME)/dagster.yaml: dagster.yaml
	@mkdir -p $(@D) && cp $< $@
