# Revops. `make` lists the commands.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
UV_VERSION := 0.9.30
VENV := .venv
EMBEDDING_VENV := .venv-embedding
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
WEB_PORT ?= 8080
# Of the Compose stack's images.
REVOPS_TAG ?= latest
# Where pip looks for torch besides its usual index. Without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu saves 3 GB.
TORCH_INDEX ?=

export PYTHONPATH := $(CURDIR)/plugins
# Two installs into one environment at a time would break each other: the second waits.
LOCKED := flock .install.lock
LOCKED_EMBEDDING := flock .install-embedding.lock
LOCAL = $(BIN)/python -m revops.local

.PHONY: help
help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | awk -F'\t' '{printf "  %-12s %s\n", $$1, $$2}'

# Both at a time: one waits for the network while the other unpacks.
.PHONY: install
install:  ## install what the embedded stack and the tests need
	@$(MAKE) -s -j2 $(VENV)/.installed $(EMBEDDING_VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-dev.txt constraints.txt
	@$(LOCKED) $(MAKE) _install

$(EMBEDDING_VENV)/.installed: include/embedding/requirements.txt include/embedding/requirements-dev.txt include/embedding/constraints.txt
	@$(LOCKED_EMBEDDING) $(MAKE) _install-embedding

.PHONY: _install
_install:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Revops needs Python 3.11 or newer; set PYTHON=python3.11")'
	@if [ ! -f $(VENV)/.installed ] || [ -n "$$(find requirements*.txt constraints.txt -newer $(VENV)/.installed)" ]; then \
	  echo "installing Airflow and tools into $(VENV)"; \
	  $(PYTHON) -m venv $(VENV); \
	  $(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-dev.txt; \
	  touch $(VENV)/.installed; \
	fi

# torch comes by pip, which honours the machine's pip configuration (a CPU index, a local wheel); the rest by uv, which is fast.
.PHONY: _install-embedding
_install-embedding:
	@if [ ! -f $(EMBEDDING_VENV)/.installed ] || [ -n "$$(find include/embedding/*.txt -newer $(EMBEDDING_VENV)/.installed)" ]; then \
	  echo "installing the encoder (torch, FlagEmbedding) into $(EMBEDDING_VENV)"; \
	  $(PYTHON) -m venv $(EMBEDDING_VENV); \
	  $(EMBEDDING_VENV)/bin/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	    uv==$(UV_VERSION) $$(grep -E '^torch==' include/embedding/requirements.txt | cut -d' ' -f1); \
	  $(EMBEDDING_VENV)/bin/uv pip install --quiet --python $(EMBEDDING_VENV)/bin/python -r include/embedding/requirements-dev.txt; \
	  touch $(EMBEDDING_VENV)/.installed; \
	fi

.PHONY: demo
demo: install  ## run everything on sample sources and print a report; again: incremental
	@$(LOCAL) demo

.PHONY: start
start: install  ## start the stack with the web UI in the background (WEB_PORT=8080)
	@$(LOCAL) start --web-port $(WEB_PORT)

.PHONY: stop
stop: $(VENV)/.installed  ## stop the stack
	@$(LOCAL) stop

.PHONY: run
run: install  ## one DAG run in the foreground (DAG=odoo)
	@test -n "$(DAG)" || { echo "usage: make run DAG=odoo"; exit 2; }
	@$(LOCAL) run $(DAG)

.PHONY: task
task: install  ## one task by `airflow tasks test` (DAG=odoo TASK=extract.crm_lead)
	@test -n "$(DAG)" -a -n "$(TASK)" || { echo "usage: make task DAG=odoo TASK=extract.crm_lead"; exit 2; }
	@$(LOCAL) task $(DAG) $(TASK)

.PHONY: setup
setup: $(VENV)/.installed  ## create and migrate the warehouse that the connection revops_core names
	@$(LOCAL) setup

.PHONY: check
check: install  ## check settings, connections, servers and encoder before a run (ARGS="--only odoo_source --wait 30")
	@$(LOCAL) check -- $(ARGS)

.PHONY: psql
psql: $(VENV)/.installed  ## psql on the embedded warehouse (ARGS='-Atc "select 1"')
	@$(LOCAL) psql -- $(ARGS)

.PHONY: rotate-keys
rotate-keys: $(VENV)/.installed  ## bring all tokens to the writing key of REVOPS_DATA_KEYS (FORGET=1: give up what only lost key 1 reads)
	@$(LOCAL) rotate $(if $(FORGET),--forget "$(FORGET)")

# What is looked for travels in the environment: a key of a row may hold anything.
.PHONY: decrypt
decrypt: export KEY := $(value KEY)
decrypt: $(VENV)/.installed  ## show one value to who holds the keys (TABLE=odoo_res_partner COLUMN=email KEY=42); recorded in ops
	@test -n "$(TABLE)" -a -n "$(COLUMN)" -a -n "$$KEY" || { echo "usage: make decrypt TABLE=odoo_res_partner COLUMN=email KEY=42"; exit 2; }
	@$(LOCAL) decrypt "$(TABLE)" "$(COLUMN)" -- "$$KEY"

# A query travels in the environment: a shell would make commands of what stands in it.
.PHONY: search
search: export QUERY := $(value Q)
search: install  ## hybrid search (Q="kubernetes for a bank"; ARGS="--country DE --rerank", ARGS="--like account:odoo:7")
	@test -n "$$QUERY$(ARGS)" || { echo 'usage: make search Q="kubernetes for a bank"; make search ARGS=--help'; exit 2; }
	@$(LOCAL) search $(ARGS) $${QUERY:+-- "$$QUERY"}

# With Docker the image fetches it; the model then is the folder bge-m3 in the volume.
.PHONY: model
ifdef VOLUME
model:
	docker build --quiet --tag revops-embedding include/embedding
	docker run --rm --user 0 --env HF_ENDPOINT --env HTTPS_PROXY --env NO_PROXY --volume "$(VOLUME):/models" \
	  $(if $(FROM),--volume "$(abspath $(FROM)):/from:ro") revops-embedding fetch-model --output /models/bge-m3 \
	  $(if $(FROM),--from /from) $(if $(ENDPOINT),--endpoint "$(ENDPOINT)")
else
model: install  ## fetch BGE-M3 into REVOPS_EMBEDDING_MODEL, or VOLUME=revops-models (FROM=folder, ENDPOINT=mirror)
	@$(LOCAL) model $(if $(FROM),--from "$(FROM)") $(if $(ENDPOINT),--endpoint "$(ENDPOINT)")
endif

.PHONY: secrets
secrets:  ## make the passwords, keys and certificates that the Compose stack lacks (ARGS="--demo --name warehouse=db.example.com")
	@REVOPS_TAG="$(REVOPS_TAG)" include/compose/make-secrets $(ARGS)

# PROFILE and the settings of docker-compose.yaml travel in the environment: make up PROFILE=demo,scale WEB_PORT=9090
.PHONY: up
up:  ## start the Compose stack, on Docker alone (PROFILE=demo with sample sources, dev with a mail sink, scale with workers)
	@include/compose/up

.PHONY: down
down:  ## stop the Compose stack; its volumes stay (VOLUMES=1 removes them, after asking)
	@include/compose/down

.PHONY: logs
logs:  ## follow the logs of the Compose stack (SERVICE=airflow-scheduler)
	@include/compose/run logs --follow --tail 100 $(SERVICE)

.PHONY: mail
mail:  ## list the mails that the Compose stack's mail sink has taken
	@include/compose/run exec mail python -m mail_sink --list

.PHONY: backup
backup:  ## Compose: dump the warehouse and Airflow's database (TO=/backups/2026-11-23); docs/backup.md
	@test -n "$(TO)" || { echo "usage: make backup TO=/backups/$$(date +%F)"; exit 2; }
	@deploy/backup/compose warehouse "$(TO)" dump /backup/warehouse revops_core
	@deploy/backup/compose metadata "$(TO)" dump /backup/metadata airflow
	@echo "Not in it: the keys. Keep secrets/airflow/data_keys and index_key elsewhere."

.PHONY: restore
restore: export ASIDE := $(ASIDE)
restore:  ## Compose: restore the warehouse (FROM=/backups/2026-11-23; ASIDE=1 renames what is there; SERVICE=metadata); docs/backup.md
	@test -d "$(FROM)/$(or $(SERVICE),warehouse)" || { echo "usage: make restore FROM=/backups/$$(date +%F)"; exit 2; }
	@deploy/backup/compose $(or $(SERVICE),warehouse) "$(FROM)" restore /backup/$(or $(SERVICE),warehouse)

.PHONY: lint
lint: $(VENV)/.installed  ## check style, types and SQL, and look for secrets in the tree and its history
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --processes 2 --disable-progress-bar include/sql
	$(BIN)/python -m revops.local.secret_scan

.PHONY: test
test: install lint  ## run the tests (LONG=1: those that take minutes, too)
	PYTHONPATH=include/embedding $(EMBEDDING_VENV)/bin/python -m pytest -q --confcutdir=tests/embedding tests/embedding
	$(BIN)/python -m pytest -q -n logical --maxprocesses 8 $(if $(LONG),,-m "not long") \
	  --ignore=tests/embedding --ignore=tests/docker

.PHONY: test-docker
test-docker: export TORCH_INDEX := $(TORCH_INDEX)
test-docker: install  ## build the images and run encoder and Compose stack on a Docker engine, through kills and lost connections
	$(BIN)/python -m pytest -q tests/docker

.PHONY: bench
bench: $(VENV)/.installed  ## list the benchmarks, or run one (BENCH=extract; QUICK=1 or ROWS=200000, ONLY="first memory")
	@if [ -z "$(BENCH)" ]; then $(BIN)/python -m benchmarks; else $(MAKE) _bench; fi

.PHONY: _bench
_bench: export PYTHONPATH := $(CURDIR):$(CURDIR)/plugins
_bench: $(BENCH_VENV)/.installed $(EMBEDDING_VENV)/.installed
	@$(BIN)/python -m benchmarks.$(subst -,_,$(BENCH)) $(if $(QUICK),--quick) $(if $(ROWS),--rows $(ROWS)) \
	  $(if $(ROWS_LARGE),--large-rows $(ROWS_LARGE)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY))

# Made anew when a pin changes, compiled so that no rival's first run compiles itself.
$(BENCH_VENV)/.installed: benchmarks/requirements-rivals.txt
	@echo "installing the rivals into $(BENCH_VENV)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(BENCH_VENV)
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BENCH_VENV)/bin/python -r $<
	@touch $@

.PHONY: drill
drill: install  ## run the fault drills (LIST=1 names them; DRILL=name, one seed: SEED=n, so many in all: SEEDS=n)
	@$(BIN)/python -m tests.drills $(if $(LIST),--list) $(if $(DRILL),--drill $(DRILL)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST))

.PHONY: lock
lock: $(VENV)/.installed  ## renew constraints.txt from requirements*.txt
	sed -i.old 's/^-c constraints.txt//' requirements.txt
	$(BIN)/uv pip compile --quiet --strip-extras --universal --python-version 3.11 --upgrade requirements-dev.txt -o constraints.txt || { mv requirements.txt.old requirements.txt; exit 1; }
	mv requirements.txt.old requirements.txt

.PHONY: clean
clean:  ## stop the stack and remove everything this checkout has made, the embedded databases included
	@if [ -f $(VENV)/.installed ]; then $(LOCAL) clean; \
	  elif [ -d .local ]; then echo "run make install first: .local holds databases that only the stack can stop"; exit 1; fi
	rm -rf $(VENV) $(EMBEDDING_VENV) $(BENCH_VENV) .install.lock .install-embedding.lock .mypy_cache .ruff_cache .pytest_cache .kingfisher/cache
