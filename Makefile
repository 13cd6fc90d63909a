# Everything that a person and CI run. Plain GNU make, pip and venv; `make` alone lists the targets.

PYTHON ?= python3.11
VENV ?= .venv
OUT ?= build/demo
DATA ?=
EFFORT ?=
# Opt in to another wheel index here, for example one with CPU-only builds of torch:
# make install PIP_EXTRA_ARGS='--extra-index-url <address>'
PIP_EXTRA_ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PROTOS := $(wildcard proto/ranker/pb/*.proto)
PROTOC = $(BIN)/python -m grpc_tools.protoc -I proto
CHECKED_PROTOS := build/protos
SHIPPED := embedders feature_repo retrieval ranker evaluation sommelier infra .ci

# Idle OpenMP threads sleep: spinning ones slow every other process of a small machine.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install demo test check check-protos check-security format protos bench lock clean
# A half-made environment must not look finished.
.DELETE_ON_ERROR:

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(VENV)/.installed-dev ## Create the environment and install everything, tools included

demo: $(VENV)/.installed ## Run the whole route; OUT=folder, DATA=catalog folder, EFFORT=quick|full
	$(BIN)/sommelier demo --out '$(OUT)'$(if $(DATA), --catalog '$(DATA)')$(if $(EFFORT), --effort '$(EFFORT)')

test: $(VENV)/.installed-dev ## Run the tests; PYTEST_ARGS='tests/ranker -k ties' picks some
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-dev check-protos check-security ## Check style, types, the rooms' order, security and generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# bandit also warns of every mark that one of its finer looks had no need of; that is not shown.
check-security: $(VENV)/.installed-dev
	@mkdir -p build
	$(BIN)/bandit -q -r -c pyproject.toml $(SHIPPED) 2>build/bandit.log || { grep -v 'nosec encountered' build/bandit.log; exit 1; }
	$(BIN)/python .ci/audit.py requirements.lock

check-protos: $(VENV)/.installed-dev
	rm -rf $(CHECKED_PROTOS) && mkdir -p $(CHECKED_PROTOS)
	$(PROTOC) --python_out=$(CHECKED_PROTOS) --pyi_out=$(CHECKED_PROTOS) --grpc_python_out=$(CHECKED_PROTOS) $(PROTOS)
	@for made in $(CHECKED_PROTOS)/ranker/pb/*; do \
		diff -u "ranker/pb/$${made##*/}" "$$made" || { echo "generated code is stale: run 'make protos' and commit"; exit 1; }; \
	done
	$(BIN)/buf lint proto

format: $(VENV)/.installed-dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)/.installed-dev ## Generate ranker/pb from proto/
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

bench: $(VENV)/.installed-dev ## Run the benchmarks, but those that need other libraries (peers_*)
	@found=; for bench in benchmarks/*.py; do \
		case "$$bench" in */_*|*/peers_*|'benchmarks/*.py') continue;; esac; \
		found=yes; echo "== $$bench"; $(BIN)/python "$$bench" || exit 1; \
	done; test -n "$$found" || { echo "no benchmark in benchmarks/"; exit 1; }

lock: $(VENV)/.installed-dev ## Write requirements.lock from the environment as it is
	{ sed -n '/^#/p' requirements.lock; \
	  $(BIN)/python -m pip freeze --exclude-editable \
	  | sed -E 's/\+(cpu|cu[0-9]+)$$//' | grep -viE '^(nvidia|cuda|triton)' | grep -v ' @ ' | LC_ALL=C sort -f; \
	} > requirements.lock.new && mv requirements.lock.new requirements.lock

clean: ## Remove what was built, except the environment
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) with venv is needed. On Debian or Ubuntu:"; \
		echo "  apt-get install python3.11 python3.11-venv libgomp1"; \
		echo "or name another interpreter: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements.lock | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[all]' -c requirements.lock $(PIP_EXTRA_ARGS)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml requirements.lock | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[all,dev]' -c requirements.lock $(PIP_EXTRA_ARGS)
	@touch $(VENV)/.installed $@
