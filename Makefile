# SPDX-License-Identifier: Apache-2.0
# Two commands do everything on a fresh machine with python3 (venv) and a C compiler: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test style bench clean

demo: $(VENV)/installed-bench
	$(BIN)/python converter/examples/demo.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto

style: $(VENV)/installed-dev
	PATH="$(abspath $(BIN)):$$PATH" .ci/style

# Every runtime that pip can install, on nine networks; about an hour the first time, most of it conversions.
bench: $(VENV)/installed-rivals
	$(BIN)/python runtime_c/bench/networks.py build/networks
	$(BIN)/edge8 bench build/networks/*.onnx --against all --threads 1,2 --out build/bench.json

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The package is installed in editable mode: Python files are used where they lie; after a change in C, run make again.
$(VENV)/installed-%: $(VENV)/bin/python pyproject.toml $(wildcard runtime_c/CMakeLists.txt runtime_c/include/*.h runtime_c/src/*.[ch] runtime_c/src/*/*.[ch])
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build
