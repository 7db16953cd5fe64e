"""Test an installed wheel without a source tree and without a compiler; print one line for each test.

    python -I installed.py server | serve | without-torch | with-torch

tools/try_wheel.py runs this program in an environment that contains only the wheel and its dependencies.
"""

import importlib
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np

import recblr
from recblr._core import scan

COMMAND = Path(sys.prefix) / "bin" / "recblr"


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False)


def succeeds(*words: str) -> str:
    done = command(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def complaint(kind: type[Exception], call: Callable[[], object]) -> str:
    """The message of the error of this kind that the call must raise."""
    try:
        returned = call()
    except kind as error:
        return str(error)
    raise AssertionError(f"expected {kind.__name__}, but the call returned {returned}")


def recurrence(a, b, initial=None, boundaries=None, reverse=False):
    """h[t] = a[t] * h[t-1] + b[t] over the rows of one sequence, or of packed sequences."""
    h = np.zeros_like(b)
    boundaries = boundaries if boundaries is not None else [0, len(b)]
    for s, (begin, end) in enumerate(itertools.pairwise(boundaries)):
        state = np.zeros_like(b[0]) if initial is None else initial[s]
        for t in reversed(range(begin, end)) if reverse else range(begin, end):
            h[t] = state = a[t] * state + b[t]
    return h


RANDOM = np.random.default_rng(0)
A, B = RANDOM.uniform(-1, 1, (2, 40, 70))
OFFSETS = np.array([0, 7, 7, 40])
INITIAL = RANDOM.uniform(-1, 1, (3, 70))


def there_is_no_compiler() -> None:
    assert not [name for name in ("cc", "c++", "gcc", "g++", "clang", "cmake", "ninja") if shutil.which(name)]


def the_package_comes_from_this_environment() -> None:
    assert Path(recblr.__file__).is_relative_to(sys.prefix), recblr.__file__
    assert all(Path(file.locate()).is_relative_to(sys.prefix) for file in files("recblr") or [])


def the_numpy_scan_computes_the_recurrence() -> None:
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-13)):
        a, b, initial = (x.astype(dtype) for x in (A, B, INITIAL))
        wanted = recurrence(A, B, INITIAL, OFFSETS, reverse=True)
        np.testing.assert_allclose(scan(a, b, initial, OFFSETS, reverse=True), wanted, tolerance, tolerance)
        np.testing.assert_allclose(scan(a[::2], b[::2]), recurrence(A[::2], B[::2]), tolerance, tolerance)


def a_wrong_array_is_refused_in_one_sentence() -> None:
    message = complaint(ValueError, lambda: scan(A, B[:, 1:]))
    assert message == "scan: a must have b's shape (40, 69), but has (40, 70)", message


def the_help_names_every_command() -> None:
    output = succeeds("--help")
    assert all(name in output for name in ("train", "evaluate", "recommend", "synth", "doctor")), output


# --- tests on a server, which has only what the engine needs


def a_model_file() -> Path:
    """A model with two layers, random weights and the items i0, i1, …, in the file m.safetensors."""
    from recblr.config.model import RecBLRConfig
    from recblr.run import ModelContent, write_model_file
    from recblr.run.model_tensors import expected_tensors

    config = RecBLRConfig(d_model=16, time="none")
    random, tensors = np.random.default_rng(0), {}
    for name, spec in expected_tensors(config, 50, repeat_bias=False).items():
        tensors[name] = random.normal(scale=0.5, size=spec.shape).astype(np.float32)
        if name.endswith("average.decay"):
            tensors[name] = np.full(spec.shape, 0.1, np.float32)
    write_model_file(Path("m.safetensors"), ModelContent(config, [f"i{n}" for n in range(50)], tensors))
    return Path("m.safetensors")


def there_are_no_other_packages() -> None:
    for name in ("torch", "polars", "typer", "rich", "zstandard"):
        complaint(ModuleNotFoundError, lambda name=name: importlib.import_module(name))


def the_engine_serves_by_the_event() -> None:
    path, history = a_model_file(), ["i3", "i1", "i4", "i1", "i5"]
    engine = recblr.Engine.load(path, table="int8", history=True)
    for number, item in enumerate(history):
        assert engine.update("u", item, event_id=number)
    best = engine.recommend("u", 5)
    assert len(best) == 5
    assert not {"i3", "i1", "i4", "i5"} & dict(best).keys(), best
    assert best == engine.recommend_history(history, 5)
    ids, vectors, _ = engine.items()
    scores = dict(zip(ids, vectors @ engine.vector("u"), strict=True))
    assert all(abs(score - scores[item]) < 1e-4 for item, score in best), best
    assert best[0][1] > 0.1  # the weights are not zeros
    other = recblr.Engine.load(path, history=True)
    other.set_state("v", engine.state("u"))
    assert other.recommend("v", 5) == best
    assert len(other.explain("v", best[0][0])) == 5


def a_model_can_be_changed_and_saved() -> None:
    engine = recblr.Engine.load(a_model_file())
    engine.add_items(["new"], like=[["i3", "i4"]])
    engine.retire_items(["i0"])
    engine.save("next.safetensors")
    assert recblr.Engine.load("next.safetensors").item_ids == engine.item_ids


def a_damaged_file_is_refused_in_one_sentence() -> None:
    path = a_model_file()
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    message = complaint(recblr.InputError, lambda: recblr.Engine.load(path))
    assert message.startswith("m.safetensors is damaged: its digest does not match its content; "), message


def the_command_says_what_it_needs() -> None:
    program = f"import sys; sys.path[:] = {sys.path!r}; from recblr.cli import main; main()"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert re.search(r"needs (\w+), which is not installed: pip install \1\n$", done.stderr), done
    assert done.stderr.count("\n") == 1, done


# --- tests without torch


def torch_is_absent() -> None:
    complaint(ModuleNotFoundError, lambda: importlib.import_module("torch"))


def the_doctor_says_that_torch_is_not_installed() -> None:
    output = succeeds("doctor")
    assert "torch            not installed; pip install torch" in output, output
    assert "operators        not registered: torch is not installed" in output, output
    assert recblr.build_info()["isa"] in output
    assert recblr.build_info()["ops"] is None


def an_operator_says_that_it_needs_torch() -> None:
    for name in ("scan", "RecBLR"):
        message = complaint(ModuleNotFoundError, lambda name=name: getattr(recblr, name))
        assert message == f"recblr.{name} needs torch, which is not installed: pip install torch", message


def training_says_what_it_needs() -> None:
    done = command("train", "log.inter", "--out", "run")
    wanted = r"recblr: this command needs (\w+), which is not installed: pip install \1\n"
    assert re.fullmatch(wanted, done.stderr), done
    assert (done.returncode, done.stdout) == (2, ""), done


# --- tests with torch


def the_operators_use_the_native_kernels() -> None:
    assert recblr.build_info()["ops"]["cpu"] == "native", recblr.build_info()


def the_operator_computes_the_recurrence() -> None:
    import torch

    h = torch.ops.recblr.scan(torch.tensor(A), torch.tensor(B), torch.tensor(INITIAL), torch.tensor(OFFSETS))
    np.testing.assert_allclose(h.numpy(), recurrence(A, B, INITIAL, OFFSETS), 1e-13, 1e-13)


def the_operator_computes_the_gradient() -> None:
    import torch

    a, b = torch.tensor(A, requires_grad=True), torch.tensor(B, requires_grad=True)
    recblr.scan(a, b, offsets=torch.tensor(OFFSETS)).sum().backward()
    following = np.vstack([A[1:], np.zeros(70)])
    following[OFFSETS[1:] - 1] = 0  # the last step of a sequence has no following step
    before = np.vstack([np.zeros(70), recurrence(A, B, boundaries=OFFSETS)[:-1]])
    before[OFFSETS[:-1]] = 0
    adjoint = recurrence(following, np.ones_like(B), reverse=True)
    np.testing.assert_allclose(b.grad.numpy(), adjoint, 1e-12, 1e-12)
    np.testing.assert_allclose(a.grad.numpy(), adjoint * before, 1e-12, 1e-12)


def an_error_in_the_native_library_becomes_a_value_error() -> None:
    import torch

    arguments = torch.tensor(A), torch.tensor(B), None, torch.tensor([0, 50])
    message = complaint(ValueError, lambda: recblr.scan(*arguments))
    assert message == "scan: offsets must end with the number of rows 40, but ends with 50", message


def a_model_trains_and_recommends() -> None:
    succeeds("synth", "log.inter", "--users", "300")
    small = ("--epochs", "1", "--d-model", "16", "--num-layers", "1")
    succeeds("train", "log.inter", "--out", "run", *small)
    output = succeeds("recommend", "run", "--user", "u7", "-k", "3")
    assert [line.split()[0] for line in output.splitlines()[2:]] == ["1", "2", "3"], output
    succeeds("export", "run", "run.safetensors")
    output = succeeds("evaluate", "run", "--engine")
    assert output.endswith("the engine gives every figure of run/report.json\n"), output


def the_server_keeps_events() -> None:
    model = a_model_file()
    for restart in range(2):
        words = [COMMAND, "serve", model, "--port", "0", "--workers", "2"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            try:
                address = re.search(r"http://\S+:\d+", server.stdout.readline())[0]
                if not restart:
                    body = b'{"events": [{"user": "u", "item": "i1"}]}'
                    events = Request(f"{address}/v1/events", body, {"Content-Type": "application/json"})
                    assert urlopen(events).read() == b'{"accepted":1,"duplicates":0}'
                answer = json.loads(urlopen(f"{address}/v1/users/u/recommendations?k=3").read())
                assert len(answer["items"]) == 3, answer
                assert b"<title>recblr</title>" in urlopen(address).read()
            finally:
                server.terminate()
        assert server.returncode == 0


ALWAYS = (
    there_is_no_compiler,
    the_package_comes_from_this_environment,
    the_numpy_scan_computes_the_recurrence,
    a_wrong_array_is_refused_in_one_sentence,
    the_help_names_every_command,
)
TESTS = {
    "server": (
        there_are_no_other_packages,
        the_numpy_scan_computes_the_recurrence,
        the_engine_serves_by_the_event,
        a_model_can_be_changed_and_saved,
        a_damaged_file_is_refused_in_one_sentence,
        the_command_says_what_it_needs,
    ),
    "serve": (torch_is_absent, the_server_keeps_events),
    "without-torch": (
        *ALWAYS,
        torch_is_absent,
        the_doctor_says_that_torch_is_not_installed,
        an_operator_says_that_it_needs_torch,
        training_says_what_it_needs,
    ),
    "with-torch": (
        *ALWAYS,
        the_operators_use_the_native_kernels,
        the_operator_computes_the_recurrence,
        the_operator_computes_the_gradient,
        an_error_in_the_native_library_becomes_a_value_error,
        a_model_trains_and_recommends,
    ),
}

if __name__ == "__main__":
    for test in TESTS[sys.argv[1]]:
        test()
        print("  ok   ", test.__name__.replace("_", " "), flush=True)
