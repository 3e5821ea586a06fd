# `make` alone lists what there is to make; each line below also works typed by hand.

.DEFAULT_GOAL := help
.PHONY: help setup setup-locked demo demo-ceph test test-fast test-pure test-live test-tentacle check fmt ceph tentacle soak bench fuzz mutants compatibility docs clean

# Where it is set each process of a test run compiles all of tests and cephcaps: 24 s of a processor to begin, not 8.
unexport PYTHONDONTWRITEBYTECODE

BASE_PYTHON ?= python3
PYTHON := .venv/bin/python
PURE := -m "not live and not soak" --ignore=tests/benchmarks -n auto
# Mostly they wait for daemons, so four files run at a time, each on a cluster of its own; conftest.py has their order.
LIVE := -m "live and not soak" -n 4 --dist loadfile --no-loadscope-reorder tests/live
# What runs on both releases by itself, on none, or is about what is the same on both, such as the command line's words.
ONCE := $(addprefix --ignore=tests/live/test_,$(addsuffix .py,idle conf_oracle test_cluster_history cli_live cluster against))
TENTACLE_ROOT := $(or $(CEPHCAPS_TENTACLE),/var/cache/cephcaps/tentacle)
CEPH_PACKAGES := ceph-mon ceph-osd ceph-mds ceph-common ceph-fuse fuse3 python3-cephfs python3-rados tshark \
	debootstrap xz-utils

# Only root can install daemons or enter a chroot; anyone else runs what is there already.
ROOT := $(filter 0,$(shell id -u))
IF_ROOT_CEPH := $(if $(ROOT),ceph)
IF_ROOT_TENTACLE := $(if $(ROOT),tentacle)

# $(call apt,PACKAGES): install them, or say who could.
apt = { [ "$$(id -u)" = 0 ] || { echo "needs root: apt-get install" $(1) >&2; exit 1; }; apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready  ## Create .venv, with the package and what its tests need

define MAKE_VENV
@$(BASE_PYTHON) -c 'import sys; sys.exit("needs Python 3.11 or newer: make setup BASE_PYTHON=..." if sys.version_info < (3, 11) else 0)'
@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(BASE_PYTHON) -m venv --clear .venv >/dev/null 2>&1 || \
  { $(call apt,python3-venv) && $(BASE_PYTHON) -m venv --clear .venv; }
endef

.venv/.runs: pyproject.toml
	$(MAKE_VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile --editable .
	@touch $@

.venv/.ready: .venv/.runs
	$(PYTHON) -m pip install --quiet --upgrade "pip>=25.1"
	$(PYTHON) -m pip install --quiet --no-compile --editable ".[uvloop]" --group dev
	@touch $@

setup-locked:  ## The same in the very versions of requirements.lock, checked by their hashes, as CI has them
	$(MAKE_VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock || \
	  { echo "requirements.lock names what cannot be had as it was: see above, and docs/packaging.md for how to make it anew" >&2; exit 1; }
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch .venv/.runs .venv/.ready

demo: .venv/.runs  ## Two clients and a capability, told message by message; needs no Ceph
	.venv/bin/cephcaps demo

demo-ceph: setup $(IF_ROOT_CEPH)  ## Start a real cluster and show it with the cephcaps command
	$(PYTHON) -m tests.live.demo

test: test-pure test-live test-tentacle  ## Every test but the soak: pure, on Pacific and on Tentacle daemons

test-fast: setup  ## The tests on the embedded test cluster, in under a minute
	$(PYTHON) -m pytest -n auto tests/testing

# `make check` has run them: not again, if nothing has changed since.
CHECKED = [ -e .venv/.checked ] && [ -z "$$(find cephcaps protocol tests examples docs README.md requirements.lock pyproject.toml -name '*.*' -type f \
	-not -name '*.pyc' -newer .venv/.checked -print -quit)" ]

test-pure: setup  ## The tests that need no Ceph
	$(CHECKED) || $(PYTHON) -m pytest $(PURE)

test-live: setup $(IF_ROOT_CEPH) $(IF_ROOT_TENTACLE)  ## The live tests on this machine's own Ceph packages
	CEPHCAPS_RELEASE=pacific $(PYTHON) -m pytest $(LIVE)

test-tentacle: setup $(IF_ROOT_TENTACLE)  ## The live tests on Ceph Tentacle, in its folder
	CEPHCAPS_RELEASE=tentacle $(PYTHON) -m pytest $(LIVE) $(ONCE)

check: setup  ## Lint, format, types and the pure tests
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy --strict
	$(PYTHON) -m pytest $(PURE)
	@touch .venv/.checked

fmt: setup  ## Format, and fix what the linter can
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

ceph:  ## Install the Debian packages that a real cluster and the tests' oracles need, where missing (root)
	@missing=$$(for p in $(CEPH_PACKAGES); do dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	[ -z "$$missing" ] || $(call apt,$$missing)

tentacle: $(IF_ROOT_CEPH)  ## Build the folder with Ceph Tentacle, once a machine (root, 1-2 minutes, 0.9 GB)
	tests/live/release-root.sh forky $(TENTACLE_ROOT)

soak: setup $(IF_ROOT_CEPH)  ## The tests that take minutes
	$(PYTHON) -m pytest -m soak

bench: setup $(IF_ROOT_CEPH)  ## Figures beside those of peers: one table, and .benchmarks has it as JSON
	$(PYTHON) -m tests.benchmarks

compatibility: setup $(IF_ROOT_CEPH) $(IF_ROOT_TENTACLE)  ## docs/compatibility.md: releases, modes and kinds of keys, tried
	$(PYTHON) -m tests.live.compatibility

mutants: setup  ## Bugs planted in the engine, and what catches each
	$(PYTHON) -m tests.engine.mutants

fuzz: setup  ## Mutated bytes at every decoder and handshake, for ten minutes
	$(PYTHON) -m tests.fuzz --seconds 600

docs: setup  ## Build the pages of docs/ into docs/_build; a warning fails
	$(PYTHON) -m pip install --quiet --group docs
	$(PYTHON) -m sphinx -W --keep-going -q -b html docs docs/_build

clean:  ## Remove .venv, caches and builds; Ceph's packages and the Tentacle folder stay
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .benchmarks build dist docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
