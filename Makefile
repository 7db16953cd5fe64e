# make demo   create .venv, install, train on the built-in dataset, print metrics and recommendations
# make test   everything that CI runs: build, ruff, mypy, C++ tests, pytest
# make clean  remove what these two made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
SOURCES := $(shell find cpp src CMakeLists.txt pyproject.toml constraints.txt -type f -not -name '*.pyc')

.PHONY: demo test lint types cpp-test py-test clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "recblr needs Python 3.11 or later, and $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The package as a user gets it; built again when a source changes.
$(VENV)/.installed: $(BIN)/python $(SOURCES)
	@echo "installing recblr and its dependencies into $(VENV) …"
	$(PIP) .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@rm -rf demo && mkdir demo
	$(BIN)/recblr synth demo/data.inter
	$(BIN)/recblr train demo/data.inter --out demo/run $(DEMO_OPTIONS)
	$(BIN)/recblr recommend demo/run --user u7 -k 10

# The built-in data are small and dense in structure: a higher rate and less dropout than the defaults, which suit MovieLens.
DEMO_OPTIONS := --epochs 20 --learning-rate 0.003 --dropout 0.1

test: lint types cpp-test py-test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

cpp-test: $(VENV)/.dev
	$(BIN)/cmake -S . -B build/tests -G Ninja -DRECBLR_TESTS=ON -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) -DPython_EXECUTABLE=$(abspath $(BIN))/python > build-tests.log \
	  || { cat build-tests.log; exit 1; }
	@rm -f build-tests.log
	$(BIN)/cmake --build build/tests --target test_scan
	$(BIN)/ctest --test-dir build/tests --output-on-failure

py-test: $(VENV)/.dev
	RECBLR_REQUIRE_NATIVE=1 $(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build dist demo
