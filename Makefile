# make quickstart: everything on real data, from nothing. make test: what CI runs.
PYTHON ?= python3
VENV := .venv
PIP_INSTALL := $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --quiet -c constraints.txt

.PHONY: quickstart test clean

quickstart: $(VENV)/.installed-demo
	$(VENV)/bin/dualtower quickstart

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/python -m pytest

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stamp for each set of extras: nothing is installed again until what they depend on changes.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing dualtower and what it needs into $(VENV) (one to three minutes, once) …"
	$(PIP_INSTALL) -e ".[$*]"
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "dualtower needs Python 3.11 or newer; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
