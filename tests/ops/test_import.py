"""Imports: torch and recblr can be imported in any order, and a failed import says why.

Every case runs in a separate interpreter, because an imported module stays imported.
"""

import json
import os
import subprocess
import sys

import pytest

from recblr._core import build_info


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RECBLR_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _runs(code: str, **environment: str) -> str:
    """Run code and return what it prints.  It must end without an error or a warning."""
    done = _python(code, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


SCAN = "assert torch.ops.recblr.scan(torch.ones(2, 1), torch.ones(2, 1)).flatten().tolist() == [1, 2]\n"


# An editable install has its own finder.  The module of that finder is not in the package.
HOOKED = "import sys; assert any(type(f).__module__.startswith('recblr.') for f in sys.meta_path)\n"
UNHOOKED = HOOKED.replace("any", "not any")


def test_importing_recblr_does_not_import_torch() -> None:
    _runs("import sys, recblr; assert 'torch' not in sys.modules; recblr.__version__; dir(recblr)")


def test_the_numpy_scan_needs_no_torch() -> None:
    _runs(
        "import sys, numpy as np\n"
        "sys.modules['torch'] = None\n"  # then `import torch` fails as if torch were not installed
        "from recblr._core import scan\n"
        "x = np.ones((2, 1), np.float32)\n"
        "assert scan(x, x).ravel().tolist() == [1, 2]\n"
    )


@pytest.mark.parametrize(
    "imports",
    [
        "import recblr; import torch",
        "import torch; import recblr",
        "import recblr; import torch.nn",
        "from recblr import scan; import torch",
        "import recblr.ops; import torch",
    ],
)
def test_operators_exist_for_every_order_of_imports(imports: str) -> None:
    _runs(f"{imports}\n{SCAN}{UNHOOKED}")


def test_torch_sees_its_own_loader() -> None:
    _runs(
        "import recblr, torch\n"
        "assert 'recblr' not in type(torch.__spec__.loader).__module__\n"
        "assert torch.__loader__ is torch.__spec__.loader\n"
        "import importlib.resources\n"
        "assert importlib.resources.files('torch').joinpath('version.py').is_file()\n"
    )


def test_looking_for_torch_does_not_import_it() -> None:
    _runs(
        "import sys, importlib.util, recblr\n"
        "spec = importlib.util.find_spec('torch')\n"
        "assert spec is not None and spec.origin.endswith('__init__.py')\n"
        "assert 'torch' not in sys.modules\n"
        f"import torch\n{SCAN}"
    )


def test_without_torch_the_operators_raise_the_error_of_its_import() -> None:
    _runs(
        "import sys, importlib.abc\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import recblr\n"
        "assert recblr.build_info()['ops'] is None\n"
        "for attempt in range(2):\n"
        "    try: recblr.scan\n"
        "    except ModuleNotFoundError as error: assert error.name == 'torch'\n"
        "    else: raise AssertionError\n"
    )


def test_a_failed_import_of_torch_may_be_repeated() -> None:
    _runs(
        "import sys, importlib.abc, importlib.util\n"
        "class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        return importlib.util.spec_from_loader(name, self) if name == 'torch' else None\n"
        "    def create_module(self, spec): return None\n"
        "    def exec_module(self, module): raise ImportError('libcuda is missing')\n"
        "import recblr\n"
        "broken = Broken()\n"
        "sys.meta_path.insert(0, broken)\n"
        "for finder in list(sys.meta_path):\n"  # recblr's finder must be first, as it always is
        "    if type(finder).__module__.startswith('recblr.'):\n"
        "        sys.meta_path.remove(finder); sys.meta_path.insert(0, finder)\n"
        "for name in ('torch', 'recblr.ops'):\n"
        "    try: __import__(name)\n"
        "    except ImportError as error: assert 'libcuda is missing' in str(error)\n"
        "    else: raise AssertionError\n"
        f"{HOOKED}"
        "sys.meta_path.remove(broken)\n"
        f"import torch\n{SCAN}{UNHOOKED}"
    )


AT_ONCE = """
import threading
barrier, errors = threading.Barrier(2), []
def run(code):
    barrier.wait()
    try: exec(code, {{}})
    except BaseException as error: errors.append(error)
threads = [threading.Thread(target=run, args=[code], daemon=True) for code in ("import torch", "{second}")]
for thread in threads: thread.start()
for thread in threads: thread.join(60); assert not thread.is_alive()
assert not errors, errors
import torch
"""


@pytest.mark.parametrize("second", ["import recblr; recblr.scan", "import recblr.ops"])
def test_two_threads_may_import_torch_and_the_operators_at_the_same_time(second: str) -> None:
    _runs(f"import recblr\n{AT_ONCE.format(second=second)}{SCAN}")


def test_first_imports_in_two_threads() -> None:
    _runs(f"{AT_ONCE.format(second='import recblr')}{SCAN}")


def test_one_sentence_names_an_unknown_instruction_set() -> None:
    done = _python("import recblr._core", RECBLR_ISA="nonsense")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ImportError: RECBLR_ISA is 'nonsense', which this machine cannot run; unset it or use"
    )
    assert "baseline" in last


RESULTS = """
import json, torch, recblr
from recblr._core import build_info
random = torch.Generator().manual_seed(0)
a, b = (torch.rand(3, 20, 130, generator=random).mul(2).sub(1).requires_grad_() for _ in range(2))
h = recblr.scan(a, b)
da, db = torch.autograd.grad(h, (a, b), torch.ones_like(h))
print(json.dumps([build_info()["isa"], *(x.detach().flatten().tolist() for x in (h, da, db))]))
"""


def test_instruction_sets_agree_within_rounding() -> None:
    available = build_info()["isa_available"].split(", ")
    if len(available) < 2:
        pytest.skip(f"this machine has one instruction set: {available[0]}")
    results = {isa: json.loads(_runs(RESULTS, RECBLR_ISA=isa)) for isa in ("baseline", available[-1])}
    for isa, result in results.items():
        assert result[0] == isa
    for got, wanted in zip(*(result[1:] for result in results.values()), strict=True):
        assert max(abs(x - y) for x, y in zip(got, wanted, strict=True)) < 1e-4


# The library is beside recblr._core.  After this line, recblr looks for it in another folder.
HIDDEN = "import recblr._core; recblr._core.__file__ = '/nowhere/recblr/_core.so'\n"


@pytest.mark.parametrize(
    "imports", ["import torch, recblr", "import recblr, torch", "import recblr.ops, torch"]
)
def test_without_the_native_library_the_reference_is_used_with_one_warning(imports: str) -> None:
    _runs(
        "import warnings\n"
        f"{HIDDEN}"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    {imports}\n"
        f"    {SCAN}"
        "    recblr.scan(torch.ones(2, 1), torch.ones(2, 1, requires_grad=True)).sum().backward()\n"
        "ours = [str(w.message) for w in caught if 'recblr' in str(w.message)]\n"
        "assert len(ours) == 1 and 'librecblr_ops.so is not installed' in ours[0], ours\n"
        "said = recblr.build_info()['ops']['cpu']\n"
        "assert said.startswith('reference (librecblr_ops.so is not installed'), said\n"
    )


REFUSED = "RuntimeError: RECBLR_REQUIRE_NATIVE=1, but librecblr_ops.so is not installed"


@pytest.mark.parametrize(
    "use", ["import recblr.ops", "import recblr; recblr.scan", "import torch, recblr; recblr.bdlru"]
)
def test_a_missing_native_library_is_an_error_if_it_is_required(use: str) -> None:
    done = _python(
        f"import warnings; warnings.simplefilter('ignore')\n{HIDDEN}{use}", RECBLR_REQUIRE_NATIVE="1"
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(REFUSED)


def test_the_requirement_never_breaks_torch_and_every_use_names_it() -> None:
    _runs(
        "import warnings\n"
        f"{HIDDEN}"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import recblr, torch\n"
        "assert any('RECBLR_REQUIRE_NATIVE=1' in str(w.message) for w in caught)\n"
        "for attempt in range(2):\n"
        "    try: recblr.scan\n"
        "    except RuntimeError as error: assert 'RECBLR_REQUIRE_NATIVE=1' in str(error), error\n"
        "    else: raise AssertionError\n",
        RECBLR_REQUIRE_NATIVE="1",
    )
