# make demo   create .venv, install, train on the built-in dataset, print metrics and recommendations
# make test   everything that CI runs: build, ruff, mypy, C++ tests, pytest
# make clean  remove what these made
#
# make recbole  install RecBole into an environment of its own (Python 3.11) and test the plug-in there; not part of CI

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
SOURCES := $(shell find cpp src CMakeLists.txt pyproject.toml constraints.txt -type f -not -name '*.pyc')

.PHONY: demo test lint types cpp-test py-test recbole clean

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

# RecBole's dependencies contradict ours in nothing, but hold NumPy and pandas back, and Python at 3.11.
RECBOLE_VENV := .venv-recbole
RECBOLE_PYTHON ?= python3.11

recbole:
	@command -v $(RECBOLE_PYTHON) > /dev/null || \
	  { echo "RecBole 1.2.1 runs on Python 3.11, which is not here: make recbole RECBOLE_PYTHON=/path/to/python3.11"; exit 1; }
	$(RECBOLE_PYTHON) -m venv $(RECBOLE_VENV)
	$(RECBOLE_VENV)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt '.[recbole]' pytest hypothesis
	$(RECBOLE_VENV)/bin/python -W ignore -c 'import recblr.integrations.recbole'  # or else the tests would only be skipped
	TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 RECBLR_REQUIRE_NATIVE=1 $(RECBOLE_VENV)/bin/python -m pytest -W ignore tests/integrations

clean:
	rm -rf $(VENV) $(RECBOLE_VENV) build dist demo
