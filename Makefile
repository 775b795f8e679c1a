# Needs only Python 3.11 or newer. Everything is installed into .venv, in the versions that
# constraints.txt names, and again only when pyproject.toml or constraints.txt change.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := python3.13 python3.12 python3.11 python3
ARGS ?=

# A file's tests stay together, for what they share; files go to whichever process is free.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help demo demo-llm test test-all lint format proto bench bench-llm bench-triton clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | while IFS= read -r line; do \
		printf '  make %-12s %s\n' "$${line%%:*}" "$${line##*## }"; \
	done

demo: $(VENV)/demo.stamp ## Train a classifier of digits, serve it, ask it (DEMO_ONCE=1: then stop)
	@$(BIN)/python -m examples.digits

demo-llm: $(VENV)/llm.stamp ## Serve a small Llama, ask it about Python (DEMO_ONCE=1: then stop)
	@$(BIN)/python -m examples.tiny_llama

test: $(VENV)/dev.stamp ## Run the tests, apart from the slow ones
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/dev.stamp ## Run all tests
	$(PYTEST) $(ARGS)

lint: $(VENV)/dev.stamp ## Check style, format, types and imports
	@failed=; \
	for check in "ruff check" "ruff format --check" mypy lint-imports; do \
		echo "==> $$check"; $(BIN)/$$check || failed="$$failed '$$check'"; \
	done; \
	[ -z "$$failed" ] || { echo "make lint: failed:$$failed" >&2; exit 1; }

format: $(VENV)/dev.stamp ## Put the source into its one format
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

proto: $(VENV)/dev.stamp ## Compile the .proto files of src/inferd/schemas/pb
	cd src/inferd/schemas/pb && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc -I . \
		--include_imports --descriptor_set_out=messages.binpb $$(find * -name '*.proto' | sort)

bench: $(VENV)/dev.stamp ## Measure: make bench ARGS="..."
	$(BIN)/python -m benchmarks $(ARGS)

bench-llm: $(VENV)/dev.stamp ## Measure language engines: make bench-llm ARGS="..."
	$(BIN)/python -m benchmarks.llm $(ARGS)

bench-triton: $(VENV)/dev.stamp ## Measure beside Triton: make bench-triton ARGS="..."
	$(BIN)/python -m benchmarks.triton $(ARGS)

clean: ## Remove everything that make made, .venv too
	rm -rf $(VENV) .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# -- .venv -------------------------------------------------------------------------------------

# A name on PATH may be a stub of a version manager, and a Python may come without ensurepip: so
# each candidate is tried, not only looked up.
$(BIN)/python:
	@old=; \
	for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || { old="$$python"; continue; }; \
		echo "==> making $(VENV) with $$("$$python" --version)"; \
		exec "$$python" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$old" ]; then \
		echo "make: $$old cannot make a virtual environment; install its venv package" >&2; \
		echo "      (on Debian and Ubuntu: apt-get install python3-venv)" >&2; \
	else \
		echo "make: no Python 3.11 or newer found (looked for: $(PYTHONS))" >&2; \
	fi; \
	exit 1

# pip's own words go to a log; a terminal shows the package it is at.
$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing inferd[$*] into $(VENV) (a minute or two the first time)"
	@log=$(VENV)/install-$*.log; \
	{ $(BIN)/python -m pip install --disable-pip-version-check --no-input \
		-c constraints.txt -e '.[$*]' 2>&1; echo "pip exit $$?"; } | tee "$$log" | \
	while IFS= read -r line; do \
		case "$$line" in Collecting*|Building*|Installing*) \
			if [ -t 1 ]; then printf '\r\033[K    %.70s' "$$line"; fi;; \
		esac; \
	done; \
	if [ -t 1 ]; then printf '\r\033[K'; fi; \
	if [ "$$(tail -n 1 "$$log")" != "pip exit 0" ]; then \
		tail -n 25 "$$log" >&2; echo "make: pip failed; all it said is in $$log" >&2; exit 1; \
	fi
	@touch $@
