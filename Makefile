# Everything that redense needs is one command away: `make demo` to see it work, `make test` to check it all.
# On a fresh machine these need Python 3.11 or newer with pip, and make. They install into .venv and nowhere else.

.DEFAULT_GOAL := help
.PHONY: help demo test check test-slow test-order test-cuda test-lowest test-newest sizes coverage mutants docs dist bench results clean

# The first Python that is new enough; `make PYTHON=/path/to/python demo` chooses another.
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PY  := .venv/bin/python
PIP := $(PY) -m pip install -qq --disable-pip-version-check
WORKERS ?= 2

# The pins hold for the build tools too, which only this variable reaches.
export PIP_CONSTRAINT := constraints.txt

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed  ## install redense and train dense -> sparse -> dense on real images (about 3 minutes)
	.venv/bin/redense run quickstart

# Compiled tests are kept: to compile them costs 9 s. (An empty value is none.)
export PYTHONDONTWRITEBYTECODE =

# Each worker computes on one thread: two torch processes with two threads each on two cores are many times slower.
test: export OMP_NUM_THREADS = 1
ifdef PART
test: .venv/installed-dev
	$(PY) -m pytest --workers $(WORKERS) $(or $(TESTS_$(PART)),tests/$(PART) $(wildcard src/redense/$(PART)))
else
test: check docs  ## every check and every quick test; this is what CI runs (PART=core, arms, data, judge, report, cli: some)
	$(PY) -m pytest --workers $(WORKERS) --budget 700 --assert=plain || { $(FAILED); exit 1; }
endif

# Rewriting every assert costs 11 s in a fresh clone: only those that have failed say what their values were.
FAILED = $(PY) -m pytest --last-failed --last-failed-no-failures none

# What belongs to a part; any folder of tests/ is one too.
TESTS_core = tests/holding tests/layers tests/masks tests/schedules tests/test_controller.py tests/test_criteria.py tests/test_parameters.py \
	tests/test_phase.py tests/test_pruning.py tests/test_schedule.py tests/test_surgery.py tests/test_variants.py tests/test_public.py
TESTS_arms = tests/lab/arms tests/methods tests/test_plugins.py
TESTS_data = tests/tasks
TESTS_judge = tests/lab/judging src/redense/lab/judging tests/cli/comparisons/test_judge.py

test-slow: export OMP_NUM_THREADS = 1
test-slow: .venv/installed-slow  ## the slow tests: whole trainings, real downloads, other installs
	$(PY) -m pytest --workers $(WORKERS) -m "slow or hypothesis" --hypothesis-profile many --timeout 1200

# In one process, so that every test can stumble over what any other has left behind.
test-order: export OMP_NUM_THREADS = 1
test-order: .venv/installed-slow  ## the quick tests in an order drawn anew (SEED=7: in that one again)
	$(PY) -m pytest --random-order-bucket=module $(if $(SEED),--random-order-seed=$(SEED)) --assert=plain

# In one process: a fork cannot use a GPU that its parent has begun to use.
test-cuda: .venv/installed-slow  ## what a CUDA GPU must do as the CPU does; the other tests do not look at one
	REDENSE_TEST_CUDA=1 $(PY) -m pytest -m "slow or not slow" tests/test_cuda.py $(TESTS_cuda)

TESTS_cuda = tests/masks/test_selection.py tests/holding tests/methods tests/lab/arms/test_interrupted.py \
	tests/lab/comparison/test_results.py tests/lab/pairs tests/lab/search tests/cli/trained tests/test_benchmarks.py

# In environments of their own under build/. What passes is written into docs/compatibility.md.
test-lowest test-newest sizes: export OMP_NUM_THREADS = 1
test-lowest: .venv/installed-dev  ## the quick tests with the lower bounds of pyproject.toml
	$(PY) tools/compatibility.py lowest --workers $(WORKERS)

test-newest: .venv/installed-dev  ## the quick tests with the newest release of everything
	$(PY) tools/compatibility.py newest --workers $(WORKERS)

sizes: .venv/installed-dev  ## measure what redense and redense[lab] bring after torch
	$(PY) tools/compatibility.py sizes

CORE = src/redense/*.py,src/redense/holding/*,src/redense/layers/*,src/redense/masks/*,src/redense/scans/*

coverage: export OMP_NUM_THREADS = 1
coverage: .venv/installed-dev  ## which branches the quick tests reach; under 97 % of the core is an error
	rm -f .coverage .coverage.*
	$(PY) -m pytest --workers $(WORKERS) --cov --cov-report=
	-@$(PY) -m coverage report --include='src/redense/lab/**'
	$(PY) -m coverage report --include='$(CORE)' --fail-under=97

mutants: export OMP_NUM_THREADS = 1
mutants: .venv/installed-dev  ## whether a test notices every small change of the modules in tools/mutants.json
	$(PY) tools/mutate.py

check: .venv/installed-dev  ## lint, format, spelling, Markdown, layers and types, without the tests
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m codespell_lib
	$(PY) -m pymarkdown scan --recurse *.md .github docs
	$(PY) tools/layers.py
	$(PY) tools/assets.py
	$(PY) -m pyright

docs: .venv/installed-dev  ## build the documentation into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

dist: .venv/installed-dev  ## build the source and the wheel into dist/, and compare the wheel with what git has
	rm -rf dist
	$(PY) -m build --outdir dist . > /dev/null
	$(PY) tools/release.py check dist

bench: .venv/installed-dev  ## run every script in benchmarks/
	@set -e; for script in $(filter-out benchmarks/common.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(PY) $$script; done

results: .venv/installed-dev  ## make the numbers of results/ anew: hours; stopped, it goes on (ONLY=NAME for one)
	$(PY) tools/make_results.py $(ONLY)

clean:  ## remove what make made; runs/ stays
	rm -rf .venv site build dist .pytest_cache .ruff_cache .hypothesis .coverage* src/*.egg-info
	find src tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The install is remembered by a stamp, and made again when the dependencies change.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing redense and PyTorch into .venv, once: a minute or more, and 0.3 GB of downloads (3 GB with CUDA) ..."
	@$(PIP) --editable '.[lab]'
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing redense, PyTorch and the developer's tools into .venv, once: 2 minutes or more, and 0.5 GB of downloads (3 GB with CUDA) ..."
	@$(PIP) --editable '.[dev]'
	@touch .venv/installed $@

.venv/installed-slow: .venv/installed-dev
	@echo "Installing what the slow tests need beside: Ray, a fuzzer, loggers, ONNX and peft, 0.3 GB of downloads ..."
	@$(PIP) --editable '.[dev,slow]'
	@touch $@

.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "redense needs Python 3.11 or newer, and none was found: install it, or say where it is with 'make PYTHON=/path/to/python ...'"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: on Debian or Ubuntu, run 'sudo apt-get install python3-venv' and try again"; exit 1; }
	@$(PYTHON) -m venv .venv
