# One command each; `make help` lists them. Everything happens in .venv, made from PYTHON.

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
# Installed before everything else, so that the extras below keep it. A line of pip: index options may follow the name.
TORCH   ?= torch==2.13.0
EXTRAS  ?= dev,torch,onnx,toolchain,image
# More arguments for pytest: make test ARGS="-k connectivity"
ARGS    ?=
BIN     := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run test test-slow onnx-suite golden format lint types layers examples memory arm targets bench wheel docs fuzz fuzz-c fuzz-kernels fuzz-files coverage clean
.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready ## make .venv with everything that running and testing needs (quick the second time)
	@:

.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'compactir needs Python 3.11 or newer: make setup PYTHON=/path/to/python3.11'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install -e '.[$(EXTRAS)]'
	@touch $@

run: setup ## compile LeNet-5 to C and read 360 handwritten digits with it
	$(BIN)/python examples/digits_demo.py

test: setup ## run all tests but the slow ones
	$(BIN)/python -m pytest -n 2 -m 'not slow' $(ARGS)

test-slow: setup ## run the tests that take longer than a few seconds each: engines, Arm, sanitizers, many random graphs
	$(BIN)/python -m pytest -n 2 -m slow $(ARGS)

golden: setup ## write what the compiler says today into the golden files; read the diff before you commit it
	$(BIN)/python -m pytest -q --update-golden $(ARGS)
	git --no-pager diff --stat -- tests docs

onnx-suite: setup ## ONNX's own backend suite, in C too, and its real networks, against docs/onnx-support.md (ARGS=--write renews it)
	$(BIN)/python -m tests.onnx_suite $(ARGS)
	$(BIN)/python -m tests.onnx_in_c
	$(BIN)/python -m tests.fuzz_onnx

format: setup ## format the Python files
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: setup ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## mypy --strict
	$(BIN)/mypy -p compactir
	$(BIN)/mypy tests $(dir $(firstword $(wildcard examples/*.py))) $(dir $(firstword $(wildcard benchmarks/*.py)))

layers: setup ## import-linter: who may import whom
	$(BIN)/lint-imports

examples: setup ## compile every network of examples/, run it in C and in PyTorch, count it, compare everything
	$(BIN)/python -m compactir.tools.zoo examples

memory: setup ## plan every network of examples/, write docs/memory.md: workspace against liveness bound
	$(BIN)/python -m compactir.tools.memory examples --target x86 --write docs/memory.md

arm: setup ## every way to build for Arm, every example network on it, three on each core, under the emulator (minutes)
	$(BIN)/python tests/arm_matrix.py ways
	$(BIN)/python tests/arm_matrix.py cores
	$(BIN)/python tests/arm_matrix.py networks

targets: setup ## write C of every network of examples/ for every target, run what is portable (minutes)
	$(BIN)/python tests/target_matrix.py

bench: setup ## race other engines, write docs/performance.md (see benchmarks/README.md on how to read a number)
	$(BIN)/python -m pip install -q -e '.[bench,plot]'
	@set -e; for script in $(filter-out %/bench_engines.py,$(wildcard benchmarks/bench_*.py)); do echo "$$script"; $(BIN)/python "$$script"; done
	$(BIN)/python benchmarks/bench_engines.py --threads 1,2
	$(BIN)/python benchmarks/bench_engines.py --isa avx2

wheel: setup ## build the wheel, install it into a clean environment, use it from another folder
	$(BIN)/python tests/check_wheel.py

docs: setup ## regenerate the dumps and examples inside docs/
	$(BIN)/python -m pytest -q --update-golden tests/test_docs.py tests/test_lang_docs.py tests/test_cli.py::test_the_manual_shows_the_help_of_every_verb tests/test_write_arch.py::test_the_example_of_the_manual

fuzz: setup ## throw random and mutated model files at the language for SECONDS (default 30)
	$(BIN)/python tests/fuzz_lang.py --seconds $(or $(SECONDS),30)

fuzz-c: setup ## random networks through C against the reference for SECONDS (default 600), TARGET=c, arm, ...
	$(BIN)/python -m tests.fuzz_c --seconds $(or $(SECONDS),600) $(addprefix --target ,$(TARGET))

fuzz-kernels: setup ## COUNT (default 1000) random layers per family of kernels against the reference; ARGS=--sanitize
	$(BIN)/python -m tests.fuzz_kernels --count $(or $(COUNT),1000) $(ARGS)

fuzz-files: setup ## throw COUNT (default 10000) mutated .onnx, .safetensors and .npz files at their readers
	$(BIN)/python -W ignore -m tests.fuzz_files --count $(or $(COUNT),10000)

coverage: setup ## run all tests in one process and report which lines they reach
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage report --skip-covered

clean: ## remove everything that is not in git, .venv too
	rm -rf .venv build dist out *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
