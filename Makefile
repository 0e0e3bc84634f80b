# plugd: what one types. `make run` tries it, `make test` and `make lint` are what CI runs.
#
# All that is made lies in .venv*, build, dist and caches of this directory; `make clean` takes it away.

# The first of these that is Python 3.11 or later.
PYTHON := $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
VERSIONS := 3.11 3.12 3.13
VENV := .venv
WHEEL_VENV := .venv-wheel
FUZZ_VENV := .venv-fuzz
PINS_VENV := .venv-pins
# What a package is made with: the Python that Debian has at this place, and never another one on PATH.
DEB_PYTHON := /usr/bin/python3
PYTHON_VERSION ?= $(shell $(DEB_PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
MACHINE ?= $(shell uname -m)
WHEELS ?= build/wheels/$(PYTHON_VERSION)-$(MACHINE)
SOURCES := $(shell find plugd plugctl plugins -name '*.py' -o -name '*.h'; find systemd docs/man -type f) \
	pyproject.toml README.md
PIP := -m pip --disable-pip-version-check -qq --no-input
# Where pip runs as root, it is into an environment of its own.
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help run test test-all $(VERSIONS:%=test-%) lint bench fuzz wheel deb wheels pins clean
.DELETE_ON_ERROR:

help:
	@echo 'make run        run plugd here, in the foreground    ARGS="--plugin-dir plugins" passes flags on'
	@echo 'make test       the tests, with plugd as its wheel installs it    ARGS="-k reload" passes flags on'
	@echo 'make test-all   the same with each of Python $(VERSIONS)'
	@echo 'make lint       ruff, mypy --strict, and which module may import which'
	@echo 'make bench      the benchmarks'
	@echo 'make fuzz       the fuzzers of the control socket    ARGS="--frames 10_000_000" passes flags on'
	@echo 'make wheel      dist/plugd-*.whl'
	@echo 'make deb        dist/plugd_*.deb, for the Debian release of this machine: docs/packaging.md'
	@echo 'make wheels     what `make deb` takes from elsewhere, into a directory    PYTHON_VERSION=3.13 for another release'
	@echo 'make pins       packaging/*requirements.txt    ARGS="--upgrade" for the latest of everything'
	@echo 'make clean      take away everything that was made'

run: $(VENV)/.installed
	@$(VENV)/bin/python -m compileall -q plugd plugctl
	@echo 'plugd runs until Ctrl-C. In a second terminal: $(VENV)/bin/plugctl stats'
	@exec $(VENV)/bin/plugd --log-format text $(ARGS)

# The wheel is what users have: the daemons of the tests are its, and see nothing of this directory.
test: $(VENV)/.test $(WHEEL_VENV)/.installed
	PLUGD_TEST_BIN=$(CURDIR)/$(WHEEL_VENV)/bin $(VENV)/bin/pytest $(ARGS)

test-all:
	@$(MAKE) --no-print-directory --keep-going $(VERSIONS:%=test-%)

$(VERSIONS:%=test-%): test-%: dist/.built
	@python=; \
	for each in python$* $$HOME/.pyenv/versions/$*.*/bin/python$*; do \
		if $$each -c 'import ensurepip, sys; sys.exit("%d.%d" % sys.version_info[:2] != "$*")' 2>/dev/null; \
		then python=$$each; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "== Python $*: skipped: there is no python$* with venv, on PATH or in ~/.pyenv/versions"; exit 0; \
	fi; \
	echo "== Python $*: $$python"; \
	set -e; \
	[ -x .venv-$*/bin/python ] || $$python -m venv .venv-$*; \
	.venv-$*/bin/python $(PIP) install --upgrade 'pip>=25.1'; \
	.venv-$*/bin/python $(PIP) install --group test dist/plugd-*.whl; \
	.venv-$*/bin/python $(PIP) install --force-reinstall --no-deps dist/plugd-*.whl; \
	PLUGD_TEST_BIN=$(CURDIR)/.venv-$*/bin .venv-$*/bin/pytest $(ARGS)

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --strict
	$(VENV)/bin/lint-imports --no-cache

bench: $(VENV)/.installed
	@$(VENV)/bin/python -m compileall -q plugd plugctl
	$(VENV)/bin/python bench/run.py $(ARGS)

fuzz: $(FUZZ_VENV)/.installed
	$(FUZZ_VENV)/bin/python tests/fuzz/run.py $(ARGS)

wheel: dist/.built

# With WHEELS=DIR, they are there already.
deb: $(if $(filter file,$(origin WHEELS)),$(WHEELS)/.complete)
	@packaging/build-deb '$(WHEELS)'

wheels: $(WHEELS)/.complete

# One file for all Pythons and machines: the hashes of all wheels of a version. No address of an index gets into it.
pins: $(PINS_VENV)/bin/uv
	@$(call PIN,requirements.txt) pyproject.toml
	@$(call PIN,build-requirements.txt) --group pyproject.toml:build

PIN = $(PINS_VENV)/bin/uv pip compile --quiet $(ARGS) --universal --python-version $(firstword $(VERSIONS)) \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make pins' --output-file packaging/$(1)

clean:
	rm -rf $(VENV) .venv-* .cache dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What follows is made once, and again when what it is made of has changed.

$(VENV)/bin/python:
ifeq ($(PYTHON),)
	@echo 'plugd needs Python 3.11 or later: there is no such python3 on PATH.' >&2; exit 1
endif
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'This Python has no venv. On Debian and Ubuntu, as root: apt-get install python3-venv' >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python $(PIP) install --upgrade 'pip>=25.1'  # the first that knows dependency groups

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo 'installing plugd and what it needs into $(VENV)'
	@$(VENV)/bin/python $(PIP) install --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	@echo 'installing what the tests need'
	@$(VENV)/bin/python $(PIP) install --group test --group build
	@touch $@

$(VENV)/.lint: $(VENV)/.installed
	@echo 'installing what lint needs'
	@$(VENV)/bin/python $(PIP) install --group lint --group test
	@touch $@

dist/.built: $(SOURCES) | $(VENV)/.test
	@echo 'building the wheel'
	@rm -f dist/*.whl && mkdir -p dist
	@$(VENV)/bin/python $(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@touch $@

$(WHEEL_VENV)/.installed: dist/.built | $(VENV)/bin/python
	@echo 'installing the wheel into $(WHEEL_VENV)'
	@[ -x $(WHEEL_VENV)/bin/python ] || $(VENV)/bin/python -m venv $(WHEEL_VENV)
	@$(WHEEL_VENV)/bin/python $(PIP) install dist/plugd-*.whl
	@$(WHEEL_VENV)/bin/python $(PIP) install --force-reinstall --no-deps dist/plugd-*.whl
	@touch $@

# Where there is no atheris for this Python or machine, the fuzzers make their programs at random.
$(FUZZ_VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo 'installing plugd and what the fuzzers need into $(FUZZ_VENV)'
	@[ -x $(FUZZ_VENV)/bin/python ] || $(VENV)/bin/python -m venv $(FUZZ_VENV)
	@$(FUZZ_VENV)/bin/python $(PIP) install --upgrade 'pip>=25.1'
	@$(FUZZ_VENV)/bin/python $(PIP) install --editable . --group test
	@$(FUZZ_VENV)/bin/python $(PIP) install --group fuzz || echo 'atheris cannot be installed here'
	@touch $@

$(PINS_VENV)/bin/uv: | $(VENV)/bin/python
	@$(VENV)/bin/python -m venv $(PINS_VENV)
	@$(PINS_VENV)/bin/python $(PIP) install uv

# Debian's oldest release with such a Python has glibc 2.36; what a project publishes for an older one runs on it as well.
PLATFORMS := manylinux_2_36 manylinux_2_35 manylinux_2_34 manylinux_2_31 manylinux_2_28 manylinux_2_26 manylinux_2_24 \
	manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010 manylinux_2_5 manylinux1

$(WHEELS)/.complete: packaging/requirements.txt packaging/build-requirements.txt | $(VENV)/bin/python
	@echo 'fetching wheels for Python $(PYTHON_VERSION) on $(MACHINE) into $(WHEELS)'
	@$(VENV)/bin/python $(PIP) download --dest '$(WHEELS)' --no-deps --require-hashes --only-binary :all: \
		--implementation cp --python-version $(PYTHON_VERSION) $(PLATFORMS:%=--platform %_$(MACHINE)) \
		$(^:%=--requirement %)
	@touch $@
