# Every target does its own set-up: system packages (apt, as root), .venv, the binaries.
# PYTHON=/path/to/python3 chooses the interpreter of .venv.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PREFIX ?= /usr/local
DESTDIR ?=
# The host's name in the table of attacks.
ATTACKED ?= cgroup v1
SOAK_MINUTES ?= 60
KILLS ?= 1000
SEED ?=
VM_RUN ?= ../shared/vm/vm-run
FUZZ_SECONDS ?= 600
export PYTHON
# CMake and pip have ideas of their own about these.
unexport DESTDIR PREFIX

.PHONY: help run test test-py test-c test-vm test-arm64 attacks attacks-rootless fuzz bench kills soak lint format man install deb clean check native
.DELETE_ON_ERROR:

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# pip installs what pyproject.toml names; CMake then keeps the binaries up to date. The locks are
# for two makes at once in one tree.
$(READY): pyproject.toml native/ffi_build.py .ci/setup
	@flock .ci .ci/setup
	@touch $@

native: $(READY)
	@flock .ci .ci/build

run: native ## Run two sample programs in the sandbox
	@$(PY) tests/sample/run.py

test: test-c test-py ## All tests: C with sanitizers, then Python against the real helper

test-py: native
	@flock .ci .ci/languages
	@$(PY) -m pytest

test-c: $(READY) ## The C tests alone
	@flock .ci .ci/build tests
	@ctest --test-dir build/tests --output-on-failure --no-tests=error

test-vm: native ## Integration, attacks, faults on cgroup v2 under systemd, in virtual machines
	@VM_RUN=$(VM_RUN) TESTS="$(TESTS)" VM_ARGS="$(VM_ARGS)" tests/vm/run $(MACHINES)

test-arm64: native ## The C tests, and TESTS, on 64-bit ARM in an emulated machine
	@TESTS="$(TESTS)" tests/vm/arm64

kills: native ## Kill and stop processes at random under load: KILLS=1000, SEED=…
	@cd tests && ../$(PY) -m faults.kills --kills $(KILLS) $(SEED:%=--seed %)

attacks: native ## Run every attack; write the table of the results, docs/attacks.md
	@mkdir -p build
	@$(PY) docs/attacks.py --tests | xargs $(PY) -m pytest --junitxml=build/attacks.xml; failed=$$?; \
	$(PY) docs/attacks.py "$(ATTACKED)=build/attacks.xml" && exit $$failed

attacks-rootless: native ## The same on daemons of an ordinary user (started by root, for the tests)
	@mkdir -p build
	@$(PY) docs/attacks.py --tests | SANDBOXD_TEST_MODE=rootless xargs $(PY) -m pytest \
		--junitxml=build/attacks-rootless.xml; failed=$$?; \
	$(PY) docs/attacks.py "rootless, $(ATTACKED)=build/attacks-rootless.xml" && exit $$failed

fuzz: native ## Fuzz every target (TARGETS) for FUZZ_SECONDS of CPU time; keep what is new
	@flock .ci .ci/fuzz $(FUZZ_SECONDS) $(TARGETS)

bench: native ## Measure against the floor and every sandbox that is installed
	@$(PY) tests/bench/run.py

soak: native ## An hour of mixed load, watched and judged; SOAK_MINUTES=N, SOAK="--into DIR …"
	@PYTHONPATH=tests $(PY) -m soak --minutes $(SOAK_MINUTES) $(SOAK)

lint: native ## ruff, mypy, clang-format, clang-tidy, gcc -fanalyzer, unit files, man pages
	@.ci/lint

check: lint test ## Lint, then all tests

format: native ## Rewrite the sources in the house format
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix-only --quiet .
	@$(VENV)/bin/clang-format -i $$(git ls-files 'native/*.[ch]' 'tests/*.[ch]')

man: $(READY) ## Build the man pages into build/man
	@$(PY) docs/man.py build/man

install: native ## Install for the whole machine, below PREFIX (/usr/local), with the systemd units
	@INSTALL_ROOT=$(DESTDIR) INSTALL_PREFIX=$(PREFIX) flock .ci .ci/install

deb: native ## Build a Debian package into build/deb
	@flock .ci .ci/deb

clean: ## Remove everything that was built
	rm -rf $(VENV) build sandboxd/libexec sandboxd/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
