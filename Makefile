# What a checkout can do. `make help` lists it; every target sets the environment up first.
#   VENV    where the environment lives             (default .venv)
#   PYTHON  the interpreter it is made with         (default python3, needs 3.11 or newer)
#   TORCH   how pip gets torch; for other builds:   make install TORCH="torch==2.13.0 --index-url URL"
#   ARGS    arguments of the main job:              make run ARGS="method=tallrec seed=1"
#   JOBS    runs of a table at a time, one CPU thread each (default 2; 1 where they share a GPU)
#   FORM    which file of a table:                  make table-main FORM=small
VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
ARGS ?=
JOBS ?= 2
DATASET ?= synthetic
CF ?= mf_plus
TRIALS ?= 20
FORM ?= sweep
SWEEP ?= experiments/main
# of these the usual form is the short one
SHORT_TABLES := experiments/ablation/sweep.yaml experiments/cf_synthetic/sweep.yaml
ML1M_TABLES := $(if $(wildcard data/collm-ml1m/*.pkl),experiments/main/ml1m.yaml experiments/ablation/ml1m.yaml)

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# two test processes of one thread each beat one process of two: the models are tiny
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# a failing table does not stop the others; the end tells
each = @status=0; for file in $(1); do \
	echo "== $$file"; \
	OMP_NUM_THREADS=1 $(BIN)/python -m ckf sweep $$file --jobs $(JOBS) $(ARGS) || status=1; \
	$(BIN)/python -m ckf report table=$$file || status=1; \
	done; exit $$status

.DEFAULT_GOAL := help
.PHONY: help install run tune-cf test test-slow test-all test-gpu lint types format check wheel speed-prepare tables tables-small figures dashboard docs clean

help: ## this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-10s %s\n", $$1, $$2 }'

install: $(STAMP) ## set the environment up (once, and again when the pins change)

# torch goes first and alone: the rest then keeps that build, whichever index it came from
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ckf needs Python 3.11 or newer; choose one with PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

run: install ## the main job on the built-in data (CPU, a few minutes)
	$(BIN)/python -m ckf $(ARGS)

test: install ## the tests that take seconds
	$(PYTEST) -m "not slow and not gpu"

test-slow: install ## the tests that take minutes: kills, processes, a hundred trials, a browser
	$(PYTEST) -m "slow and not gpu"

test-all: test test-slow ## every test that needs no GPU

test-gpu: install ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: install ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## mypy
	$(BIN)/mypy

format: install ## rewrite the code in ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: install ## compose and check every option and every sweep
	$(BIN)/python -m ckf check --all

table-%: install ## a table: run what is missing of experiments/<name>/sweep.yaml, render it (HTML in outputs/tables); FORM=small|full|ml1m
	OMP_NUM_THREADS=1 $(BIN)/python -m ckf sweep experiments/$*/$(FORM).yaml --jobs $(JOBS) $(ARGS)
	$(BIN)/python -m ckf report table=experiments/$*/$(FORM).yaml

tables: install ## every table in its usual form (hours on a laptop)
	$(call each,$(wildcard experiments/*/sweep.yaml))

tables-small: install ## every table in its small form: built-in data, and ML-1M where data/collm-ml1m is there
	$(call each,$(wildcard experiments/*/small.yaml) $(SHORT_TABLES) $(ML1M_TABLES))

figures: install ## the figures of every table that has results, as PDF in figures/
	@for file in $(wildcard experiments/*/*.yaml); do \
		results=$$(dirname $$file)/results$$(basename $$file .yaml | sed 's/^sweep$$//; s/^\(.\)/-\1/').csv; \
		[ -f $$results ] || continue; \
		$(BIN)/python -m ckf report table=$$file figures=figures || exit 1; \
	done

dashboard: install ## the review report in Weights & Biases: SWEEP=experiments/main (needs `wandb login`)
	$(BIN)/python -m ckf.report.wandb_tables $(SWEEP)

docs: install ## docs/configuration.md, made from the configs
	$(BIN)/python docs/make_configuration.py

speed-prepare: install ## preparing 1 million made reviews: ckf, pandas and row by row, side by side
	$(BIN)/python experiments/speed/prepare/run.py cache/speed-prepare

tune-cf: install ## search settings of a CF model by its val figures: DATASET=synthetic CF=mf_plus TRIALS=20
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[tune]'
	OMP_NUM_THREADS=1 $(BIN)/python -m ckf.sweep.tune_cf dataset=$(DATASET) cf=$(CF) trials=$(TRIALS) $(ARGS)

wheel: install ## build dist/*.whl
	$(BIN)/python -m build --wheel

clean: ## remove what tools left behind (not cache/, not outputs/)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
