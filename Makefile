# make demo      create .venv, install, train on the built-in dataset, print metrics and recommendations
# make serve-demo  train on the built-in dataset, serve the model, and print the address of its page (PORT=8000)
# make test      everything that CI runs: build, ruff, clang-format, mypy, C++ tests, pytest
# make format    lay out Python, C++ and CUDA as `make lint` wants them
# make cuda-check  compile the CUDA kernels for one architecture, without a GPU; fail if a kernel spills registers
# make wheel     build a manylinux wheel in dist/, check its content, and try it in empty environments
# make matrix    test that wheel under several versions of torch (not part of CI: downloads over a gigabyte)
# make sanitize  run the C++ tests, the operators' tests, hostile input and threads under sanitizers
# make mutants   run the C++ tests in all cases, and test that they notice broken CUDA kernels
# make kills     kill a training 20 times at random moments, and test that it ends like one that was never killed; kill
#                processes that add events to a store 200 times, and Redis 40 times, and test that none is lost
# make coverage  run the Python tests, and show which lines of the package they run; as pages in build/coverage
# make bench-cycles  measure how many cycles the fused kernels take for an element
# make recbole   install RecBole into a separate environment (Python 3.11), and test the plug-in (not part of CI)
# make rectools  install RecTools into a separate environment (Python 3.11), and test the adapter (not part of CI)
# make bench     run every benchmark (25 minutes; DATA=FILE adds an epoch): tables, and files in docs/benchmarks
# make bench-serve  measure recblr serve with wrk (3 minutes): docs/benchmarks/serve.json
# make clean     remove what the other targets made

# If there is nvcc, CUDA kernels are built for one architecture.  Wheels have kernels for all that we support.
CUDA_ARCHITECTURES ?= 90
ALL_ARCHITECTURES := -C cmake.define.RECBLR_CUDA_ARCHITECTURES=
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With --no-compile, pip does not compile all of torch's Python files, which takes half a minute.  The first import
# compiles those that it needs, and must be allowed to keep them.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q --no-compile -c constraints.txt
DEV_BUILD := build/check
# Every target except the demo uses these options, so one build serves all of them.
DEV_OPTIONS = -C cmake.define.RECBLR_CUDA_ARCHITECTURES=$(CUDA_ARCHITECTURES) -C build-dir=$(DEV_BUILD) -C cmake.define.RECBLR_TESTS=ON
SOURCES := $(shell find cpp cuda cmake src CMakeLists.txt pyproject.toml constraints.txt -type f -not -name '*.pyc')
CPP_TESTS := $(shell find tests/cpp tests/cuda_on_host -type f)

.PHONY: demo serve-demo test lint format types cpp-test cuda-check py-test isa-test mutants kills coverage bench-cycles wheel matrix sanitize recbole rectools bench bench-serve clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "recblr needs Python 3.11 or later, and $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The package with the kernels of this processor only, and without CUDA kernels, because compiling all takes minutes.
# It is built again when a source changes.
$(VENV)/.installed: $(BIN)/python $(SOURCES)
	@echo "installing recblr and its dependencies into $(VENV) …"
	$(PIP) -C cmake.define.RECBLR_CUDA=OFF -C cmake.define.RECBLR_THIS_MACHINE_ONLY=ON '.[plot]'
	@touch $@

# The package with the tools of development and the C++ tests.  One build makes all, because a second takes as long.
# pip unpacks the dependencies on one core, so the compiler works meanwhile.
$(VENV)/.dev: $(BIN)/python $(SOURCES) $(CPP_TESTS)
	@echo "installing recblr and its dependencies into $(VENV), and compiling the C++ tests …"
	@$(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	  print(*p['dependencies'], *p['optional-dependencies']['dev'], sep='\n')" > $(VENV)/requirements.txt
	@$(PIP) -r $(VENV)/requirements.txt & dependencies=$$!; $(PIP) --no-deps $(DEV_OPTIONS) .; built=$$?; \
	  wait $$dependencies && exit $$built
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	@rm -rf demo && mkdir demo
	$(BIN)/recblr synth demo/data.inter --titles demo/titles.tsv
	$(BIN)/recblr train demo/data.inter --out demo/run $(DEMO_OPTIONS)
	$(BIN)/recblr recommend demo/run --user u7 -k 10 --titles demo/titles.tsv
	@echo "An item is right if its title names an item of the user's history: it is the next one of its series."

PORT := 8000

# The demo trains only once: remove the folder `demo` to train again.
serve-demo: $(VENV)/.serve
	@test -f demo/run/report.json || $(MAKE) --no-print-directory demo
	$(BIN)/recblr export demo/run demo/model.safetensors
	$(BIN)/recblr serve demo/model.safetensors --titles demo/titles.tsv --port $(PORT)

$(VENV)/.serve: $(VENV)/.installed
	$(PIP) $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['serve'])")
	@touch $@

# The built-in data follow series in an exact order, so they need less dropout than real data of their size.
DEMO_OPTIONS := --epochs 8 --dropout 0.1

# The first three keep one core busy each.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j2 lint types cuda-check
	@$(MAKE) --no-print-directory cpp-test py-test isa-test

# This list does not come from git, so it is also right in an unpacked archive.
CLANG_FORMATTED = $(shell find cpp cuda tests benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CLANG_FORMATTED)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CLANG_FORMATTED)

types: $(VENV)/.dev
	$(BIN)/mypy

cpp-test: $(VENV)/.dev
	$(BIN)/ctest --test-dir $(DEV_BUILD) --output-on-failure -j $$(nproc)

cuda-check: $(VENV)/.dev
	$(BIN)/python tools/check_cuda_resources.py --arch $(CUDA_ARCHITECTURES) --built $(DEV_BUILD)/ptxas

# Waiting threads sleep.  If they spun, they would slow the tests of other processes.
ONE_PYTEST := OMP_WAIT_POLICY=passive RECBLR_REQUIRE_NATIVE=1 $(BIN)/python -m pytest
# One process for each core.
PYTEST := $(ONE_PYTEST) --numprocesses auto --maxprocesses 8 --dist worksteal

py-test: $(VENV)/.dev
	$(PYTEST)

# The tests of the kernels and of the engine's scores, under every instruction set of this machine except the best one,
# which py-test uses.  The test that is left out measures memory, which does not depend on the instruction set.
ISA_TESTS := $(addprefix tests/,ops/test_scan.py ops/test_time_split.py ops/test_storage.py ops/test_bdlru.py \
  ops/test_causal_conv1d.py ops/test_fused.py nn/losses/test_cross_entropy.py nn/test_dropout.py \
  serving/test_engine_parity.py serving/test_engine_answers.py) -k "not chunk_of_logits"

# The instruction sets take turns on the cores, one process for each.
isa-test: $(VENV)/.dev
	@$(BIN)/python -c "from recblr._core import build_info as b; \
	  print(*(i for i in b()['isa_available'].split(', ') if i != b()['isa']), sep='\n')" \
	  | xargs -r -P $$(nproc) -I {} sh -c 'said=$$(RECBLR_ISA={} $(ONE_PYTEST) $(ISA_TESTS) 2>&1); status=$$?; \
	    echo "pytest under RECBLR_ISA={}"; echo "$$said"; exit $$status'

mutants: $(VENV)/.dev
	RECBLR_THOROUGH=1 $(BIN)/ctest --test-dir $(DEV_BUILD) --output-on-failure -j $$(nproc)

kills: $(VENV)/.dev
	RECBLR_KILLS=20 RECBLR_STORE_KILLS=200 RECBLR_REQUIRE_NATIVE=1 $(BIN)/python -m pytest tests/training/test_kill.py \
	  tests/serving/test_service_kills.py

# The processes that tests start count too.
coverage: $(VENV)/.dev
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html

bench-cycles: $(VENV)/.dev
	$(BIN)/cmake -S . -B build/cycles -G Ninja -DRECBLR_TESTS=ON -DRECBLR_CUDA=OFF -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) -DPython_EXECUTABLE=$(abspath $(BIN))/python > build/cycles.log \
	  || { cat build/cycles.log; exit 1; }
	@$(BIN)/cmake --build build/cycles --target cycles
	@for isa in x86-64-v4 x86-64-v3 baseline; do RECBLR_ISA=$$isa build/cycles/tests/cpp/cycles; done

# RecBole works with our other dependencies, but it needs old versions of NumPy and pandas, and Python 3.11.
RECBOLE_VENV := .venv-recbole
RECBOLE_PYTHON ?= python3.11

recbole:
	@command -v $(RECBOLE_PYTHON) > /dev/null || \
	  { echo "RecBole 1.2.1 needs Python 3.11, and $(RECBOLE_PYTHON) is not found: make recbole RECBOLE_PYTHON=/path/to/python3.11"; exit 1; }
	$(RECBOLE_PYTHON) -m venv $(RECBOLE_VENV)
	$(RECBOLE_VENV)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -C cmake.define.RECBLR_CUDA=OFF '.[recbole]' pytest hypothesis
	$(RECBOLE_VENV)/bin/python -W ignore -c 'import recblr.integrations.recbole'  # if this fails, the tests would be skipped
	TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 RECBLR_REQUIRE_NATIVE=1 $(RECBOLE_VENV)/bin/python -m pytest -W ignore tests/integrations

# RecTools needs old versions of NumPy and pandas, too.
RECTOOLS_VENV := .venv-rectools
RECTOOLS_PYTHON ?= python3.11

rectools:
	$(RECTOOLS_PYTHON) -m venv $(RECTOOLS_VENV)
	$(RECTOOLS_VENV)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -C cmake.define.RECBLR_CUDA=OFF '.[rectools]' pytest hypothesis
	$(RECTOOLS_VENV)/bin/python -W ignore -c 'import recblr.integrations.rectools'  # if this fails, the tests would be skipped
	RECBLR_REQUIRE_NATIVE=1 $(RECTOOLS_VENV)/bin/python -m pytest tests/integrations/test_rectools.py

# The Python to build a wheel for, and whether to try the wheel with torch: required, auto (if there is a torch for
# this Python) or no.
WHEEL_PYTHON := $(BIN)/python
WHEEL_TORCH := required

# Every file gets the time of the commit, so that the same commit gives the same bytes.
EPOCH = SOURCE_DATE_EPOCH=$(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2> /dev/null),315532800)

# The wheel does not contain torch's libraries, because torch itself is a dependency.
build/wheel/.built: $(VENV)/.dev $(SOURCES)
	@rm -rf build/wheel
	$(EPOCH) $(WHEEL_PYTHON) -m pip --disable-pip-version-check wheel -q $(ALL_ARCHITECTURES) --no-deps -w build/wheel .
	$(EPOCH) PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --exclude libtorch.so -w build/wheel/repaired build/wheel/*.whl
	$(BIN)/python tools/check_wheel.py build/wheel/repaired/*.whl
	@touch $@

wheel: build/wheel/.built
	$(WHEEL_PYTHON) tools/try_wheel.py build/wheel/repaired/*.whl --torch $(WHEEL_TORCH)
	@mkdir -p dist && cp build/wheel/repaired/*.whl dist/
	@echo "in dist/: $$(basename build/wheel/repaired/*.whl)"

# The oldest torch that we support, the one that brought CUDA 13, the one of CI, and the newest.
MATRIX_TORCH := 2.10.0 2.11.0 2.13.0 2.15.0

matrix: build/wheel/.built
	$(BIN)/python tools/matrix.py build/wheel/repaired/*.whl $(MATRIX_TORCH)

sanitize: $(VENV)/.dev
	$(BIN)/python tools/sanitize.py

# The other libraries that the benchmarks measure.  Nothing else needs them.
$(VENV)/.bench: $(VENV)/.dev
	$(PIP) $(DEV_OPTIONS) '.[bench]'
	@touch $@

bench: $(VENV)/.bench
	$(BIN)/python benchmarks $(if $(DATA),--data $(DATA))

bench-serve: $(VENV)/.dev
	$(BIN)/python benchmarks/serve.py --out docs/benchmarks

clean:
	rm -rf $(VENV) $(RECBOLE_VENV) $(RECTOOLS_VENV) build dist demo
