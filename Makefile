# make demo      a lab on this machine, from nothing to a user logged in on a virtual machine and back
# make demo-sim  the same on a simulated hypervisor: needs no root, no packages
# make test      every test, in three processes;  make test PYTEST="tests/unit -x" WORKERS=0  for some of them, in one
# make lint      ruff, pyright, shellcheck
# make bench     the benchmarks' table;  make bench-images  that of building images
# make test-profiles  builds and boots every profile that CI does not
# make docs      writes the generated pages of docs/ again
# make clean     removes what these targets made here
# Each does its own set-up, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PYTEST ?=
WORKERS ?= 3
SCRIPTS := .ci/run .ci/prepare $(shell grep -rlE '^.(!/bin| shellcheck shell)' vcl_provision/images/guest vcl_provision/images/builder/profiles)

export PYTHON

.PHONY: demo demo-sim test test-profiles lint bench bench-images docs clean

demo: $(VENV)/.with-libvirt
	@$(VENV)/bin/vcl demo

demo-sim: $(VENV)/.plain
	@$(VENV)/bin/vcl demo --sim

test: $(VENV)/.for-tests
	$(VENV)/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST)

test-profiles: $(VENV)/.for-tests
	$(VENV)/bin/pytest tests/acceptance/every_profile.py $(PYTEST)

lint: $(VENV)/.for-tests
	$(VENV)/bin/ruff check
	$(VENV)/bin/pyright
	shellcheck $(SCRIPTS)

bench: $(VENV)/.for-tests
	$(VENV)/bin/python -m benchmarks

bench-images: $(VENV)/.for-tests
	$(VENV)/bin/python -m benchmarks images transfers

docs: $(VENV)/.plain
	$(VENV)/bin/python -m vcl_provision.faces.lifecycle_page > docs/lifecycle.md

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .import_linter_cache

# The stamps say what has been installed; a changed pyproject.toml installs again.

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.with-libvirt: EXTRAS := [libvirt]
$(VENV)/.for-tests: EXTRAS := [libvirt,test]

$(VENV)/.plain: pyproject.toml | $(VENV)/bin/python
	$(install)

$(VENV)/.with-libvirt: pyproject.toml .ci/prepare
	@.ci/prepare demo
	@$(MAKE) --silent --no-print-directory $(VENV)/bin/python
	$(install)

$(VENV)/.for-tests: pyproject.toml .ci/prepare
	@.ci/prepare test
	@$(MAKE) --silent --no-print-directory $(VENV)/bin/python
	$(install)
	@touch $(VENV)/.with-libvirt $(VENV)/.plain

define install
	@echo "installing the Python packages into $(VENV)"
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -e '.$(EXTRAS)'
	@touch $@
endef
