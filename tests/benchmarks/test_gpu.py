"""Tests of benchmarks/gpu.py, which builds, tests and measures on a GPU; these tests need no GPU."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.harness import BENCHMARKS, ROOT, load

gpu, gpu_kernels, gpu_report, gpu_shapes, stages = map(
    load, ("gpu", "gpu_kernels", "gpu_report", "gpu_shapes", "stages")
)

NAMES = ["build", "tests", "memcheck", "kernels", "train", "racecheck", "encoder"]
# torch, pytest, the packages that they import, and pip, which comes with Python.
TORCH_AND_PYTEST = (
    "torch", "torchgen", "functorch", "numpy", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2",
    "markupsafe", "fsspec", "filelock", "pytest", "_pytest", "pluggy", "iniconfig", "pygments", "pip",
)  # fmt: skip
TO_BUILD = ("pybind11", "scikit_build_core", "packaging", "pathspec", "cmake", "ninja")
BROKEN_NVCC = """#!/bin/sh
echo "fake nvcc" >&2
exit 1
"""


def run(
    *words: object, python: object = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), str(BENCHMARKS / "gpu.py"), *map(str, words)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH: programs of the system but no git, an nvcc that fails, an nvidia-smi with a GPU."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith("git"):
            (folder / program.name).symlink_to(program)
    for name, text in (
        ("nvidia-smi", "#!/bin/sh\necho '580.1, 1980 MHz, 3201 MHz'\n"),
        ("nvcc", BROKEN_NVCC),
    ):
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The Python of an environment that has only torch, pytest and the packages that they import."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    add_packages(environment / "bin" / "python", *TORCH_AND_PYTEST)
    return environment / "bin" / "python"


def add_packages(python: Path, *names: str) -> None:
    (target,) = (python.parents[1] / "lib").glob("python*/site-packages")
    for name in names:
        if (spec := find_spec(name)) is not None and spec.submodule_search_locations:
            (target / name).symlink_to(next(iter(spec.submodule_search_locations)))
        elif spec is not None and spec.origin:
            (target / Path(spec.origin).name).symlink_to(spec.origin)


needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_the_program_itself_imports_only_the_standard_library() -> None:
    without_packages = [sys.executable, "-S", str(BENCHMARKS / "gpu.py"), "--help"]
    done = subprocess.run(without_packages, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--minutes" in done.stdout


@needs_no_gpu
def test_without_a_gpu_each_stage_says_why_it_is_skipped(tmp_path: Path, tools: Path) -> None:
    done = run("--out", tmp_path / "out", PATH=str(tools), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()[: len(NAMES)]
    assert [line.partition(":")[0] for line in lines] == NAMES
    for line in lines:
        assert "skipped: it needs a GPU, and torch " in line
    report = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [stage["name"] for stage in report["stages"]] == NAMES
    assert report["machine"]["driver, clocks"] == "580.1, 1980 MHz, 3201 MHz"
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["gpu.json"]


def test_with_only_torch_and_pytest_the_build_names_what_it_lacks(
    tmp_path: Path, tools: Path, bare: Path
) -> None:
    words = "--out", tmp_path / "out", "--only", "build"
    done = run(*words, python=bare, PATH=str(tools), TMPDIR=str(tmp_path), PYTHONPATH="")
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()[0]
    assert said.startswith(
        "build: skipped: it needs pybind11, scikit_build_core: python -m pip install pybind11"
    )
    add_packages(bare, *TO_BUILD)
    done = run(*words, python=bare, PATH=str(tools), TMPDIR=str(tmp_path), PYTHONPATH="")
    assert done.returncode == 1
    assert done.stdout.startswith("build: failed after ")
    assert "RECBLR_CUDA=ON, but no nvcc was found that works" in " ".join(done.stdout.split())
    assert done.stderr == "not done, see above: build\n"
    with tarfile.open(tmp_path / "out" / "logs.tgz") as logs:
        assert logs.getnames() == ["build.log"]


def test_after_a_failed_build_all_other_stages_are_skipped(tmp_path: Path) -> None:
    options = gpu.parser().parse_args(["--out", str(tmp_path)])
    plan = gpu.Plan(options, machine_with_gpu(), tmp_path)
    plan.ended["build"] = "failed"
    reasons = {stage.name: stage.why_not() for stage in plan.stages()}
    assert set(reasons) == set(NAMES)
    for name in NAMES[1:]:
        assert reasons[name] == "it needs the build, which did not succeed"


def machine_with_gpu() -> Any:
    machine = object.__new__(gpu.Machine)
    machine.gpu = {"name": "fake GPU", "capability": "9.0"}
    return machine


def test_a_stage_names_the_package_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == "polars" else find_spec("json"))
    options = gpu.parser().parse_args(["--out", str(tmp_path), "--data", str(tmp_path)])
    plan = gpu.Plan(options, machine_with_gpu(), tmp_path)
    plan.ended["build"] = "done"
    reasons = {stage.name: stage.why_not() for stage in plan.stages()}
    assert reasons["train"] == "it needs polars: python -m pip install polars"
    assert reasons["tests"] == reasons["kernels"] == ""


def test_each_stage_has_its_command_and_environment(tmp_path: Path) -> None:
    data = tmp_path / "d.inter"
    options = gpu.parser().parse_args(["--out", str(tmp_path), "--data", str(data)])
    plan = gpu.Plan(options, machine_with_gpu(), tmp_path)
    commands = {stage.name: [*map(str, stage.command(100))] for stage in plan.stages()}
    environments = {stage.name: stage.environment for stage in plan.stages()}
    shell, install = commands["build"][:2], commands["build"][2].split()
    assert shell == ["sh", "-c"]
    assert "--no-index" in install
    assert "cmake.define.RECBLR_CUDA_ARCHITECTURES=90" in install
    assert str(tmp_path / "site") in install
    assert install[-4:] == ["&&", sys.executable, str(BENCHMARKS / "gpu_probe.py"), "--kernels"]
    for name in ("memcheck", "racecheck"):
        assert commands[name][:5] == ["compute-sanitizer", "--tool", name, "--kernel-name", "kns=recblr"]
    uncached = "PYTORCH_NO_CUDA_MEMORY_CACHING"
    assert [name for name in NAMES if uncached in environments[name]] == ["memcheck"]
    expected = ["-m", "recblr", "train", str(data), "--device", "cuda", "--out", str(tmp_path / "run")]
    assert commands["train"][1:] == expected
    for environment in environments.values():
        assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "site")
        assert environment["RECBLR_REQUIRE_NATIVE"] == environment["FAIL_WITHOUT_CUDA"] == "1"
    for test in gpu.TESTS:
        assert (ROOT / test).is_file()


def test_the_sanitizers_check_every_regime() -> None:
    """If the filter matched no test name, the sanitizers would check nothing, without an error."""
    words = "--collect-only", "-p", "no:cacheprovider", gpu.TESTS[0], "-k", gpu.SANITIZED
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    chosen = [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]
    assert any(name.startswith("test_nothing_to_do") for name in chosen), done.stdout
    for regime in "123":
        of_regime = [name for name in chosen if "brought" in name and f"-{regime}-" in name]
        assert len(of_regime) == 8, (regime, chosen)
        assert all("int32" in name for name in of_regime)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "build,dance"], "--only: unknown stage dance; choose from build, tests, memcheck, "),
        (["--data", "nowhere"], "--data nowhere is not a file"),
        (["--minutes", "0"], "--minutes must be above 0, but is 0"),
        (["--minutes", "nan"], "--minutes must be above 0, but is nan"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        gpu.main(["--out", str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_an_out_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(SystemExit, match=r"cannot create .*out: File exists; choose another --out"):
        gpu.main(["--out", str(tmp_path / "out")])


STAGES = 12
# The same command with other stages, which take a third of a second instead of minutes.
SHORT_STAGES = f"""
import gpu, sys
from stages import Stage

def stage(n):
    return Stage(f"stage{{n}}", lambda seconds: (sys.executable, "-c", "import time; time.sleep(0.3)"))

gpu.Plan.stages = lambda self: [stage(n) for n in range({STAGES})]
gpu.main(["--out", sys.argv[1], "--minutes", "1"])
"""


def test_when_it_is_killed_every_stage_that_it_reported_is_already_written(tmp_path: Path) -> None:
    seconds = random.uniform(0.5, 7)
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", SHORT_STAGES, str(tmp_path / "out")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.kill()
        said = process.communicate()[0]
    done = [line.partition(":")[0] for line in said.splitlines() if ": done" in line]
    kept = []
    if (tmp_path / "out" / "gpu.json").exists():
        report = json.loads((tmp_path / "out" / "gpu.json").read_text())
        kept = [stage["name"] for stage in report["stages"] if stage["status"] == "done"]
    assert kept[: len(done)] == done, f"killed after {seconds:.2f} s"
    assert len(kept) <= len(done) + 1


FAKE_GPU_TESTS = """
import sys, types, pytest

cuda = types.SimpleNamespace(is_initialized=lambda: True, synchronize=lambda: None)

def lose():
    def synchronize():
        raise RuntimeError("an illegal memory access was encountered")
    cuda.synchronize = synchronize
    synchronize()

@pytest.fixture(autouse=True)
def torch(monkeypatch):
    if sys.modules.get("torch") is None or not hasattr(sys.modules["torch"], "fake"):
        sys.modules["torch"] = types.SimpleNamespace(cuda=cuda, fake=True)

def test_0(): pass
def test_1(): assert 1 == 2, "wrong, but harmless"
def test_2(): pytest.skip("no need")
def test_3(): lose()
""" + "".join(f"def test_{n}(): assert sys.modules['torch'].cuda is cuda\n" for n in range(4, 20))


def test_a_test_that_makes_the_gpu_unusable_fails_only_one_other_test(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "test_fake_gpu.py").write_text(FAKE_GPU_TESTS)
    lines = tmp_path / "lines.jsonl"
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS), "RECBLR_TEST_LINES": str(lines)}
    words = "-p", "no:cacheprovider", "-p", "gpu_tests", "-n", "1", "--rootdir", tmp_path, tmp_path
    subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, words)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    outcomes = {record["id"].rpartition("_")[2]: record for record in gpu_report.json_lines(lines)}
    assert len(outcomes) == 20
    failed = sorted(int(name) for name, record in outcomes.items() if record["outcome"] == "failed")
    assert failed == [1, 3, 4]
    assert "illegal memory access" in outcomes["3"]["text"]
    assert "crashed" in outcomes["4"]["text"]
    assert outcomes["2"]["outcome"] == "skipped"
    found = gpu_report.tests_of([*outcomes.values()])
    assert (found["passed"], found["failed"], found["skipped"]) == (16, 3, 1)
    suite = gpu_report.junit([*outcomes.values()]).getroot()
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "20", "failures": "3", "skipped": "1",
    }  # fmt: skip
    assert len(suite.findall("testcase/failure")) == 3
    ElementTree.fromstring(ElementTree.tostring(suite))


FAKE_KERNELS = """
import sys, time
which, shape, lines, *words = sys.argv[1:]
sys.stdin.read()
if shape == "2×2":
    time.sleep(60)
if shape == "3×3":
    sys.exit(3)
if shape == "4×4" and which + " 4×4 again" not in open(lines).read():
    print(which, "4×4 again", file=open(lines, "a"))
    sys.exit(70)
print(which, shape, *words, file=open(lines, "a"))
"""


def test_a_shape_that_hangs_or_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gpu_kernels.py").write_text(FAKE_KERNELS)
    (tmp_path / "gpu_picture.py").write_text("import sys; open(sys.argv[2], 'w').write('</svg>')")
    (tmp_path / "slow_peer").mkdir()
    (tmp_path / "slow_peer" / "__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in (
        ("HERE", tmp_path),
        ("SHAPES", ("1×1", "2×2", "3×3", "4×4")),
        ("MOST", 2),
        ("DRAWING", 3),
    ):
        monkeypatch.setattr(gpu_shapes, name, value)
    monkeypatch.setattr(gpu_shapes, "COMPILED", "slow_peer")
    lines, picture = tmp_path / "lines", tmp_path / "kernels.svg"
    gpu_shapes.main(lines, picture, 21, quick=False)
    without = "--without slow_peer"
    assert lines.read_text().splitlines() == [
        "ours 1×1", "ours 4×4 again", "ours 4×4",
        f"peers 1×1 {without}", "peers 4×4 again", f"peers 4×4 {without}",
    ]  # fmt: skip
    printed = capfd.readouterr().out
    assert "ours, 2×2: stopped after 2 s, before it was done" in printed
    assert "ours, 3×3: failed with status 3, see above" in printed
    assert picture.exists()


QUICK = [case for shape in gpu_shapes.QUICK for case in gpu_kernels.cases(shape)]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: ", ".join(case.values()))
def test_our_operators_and_the_peers_compute_the_same(
    case: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_kernels, "DEVICE", "cpu")
    offsets = gpu_kernels.offsets_of(case["shape"])
    calls = gpu_kernels.contenders(case, gpu_shapes.PEERS, offsets)
    assert set(calls) <= {gpu_kernels.RECBLR, *gpu_kernels.BESIDE}
    assert set(gpu_kernels.contenders(case, gpu_shapes.OURS, offsets)) == {gpu_kernels.RECBLR}
    given = gpu_kernels.arguments(case)()
    wanted = calls["recblr"](*given)
    for name in {"composed", "torch associative_scan"} & set(calls):
        for ours, theirs in zip(
            *(x if isinstance(x, tuple) else (x,) for x in (wanted, calls[name](*given))), strict=True
        ):
            scale = float(theirs.detach().abs().max())
            torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * scale)


def test_a_copy_moves_as_many_bytes_as_the_operator_must() -> None:
    case = {"operator": "scan", "direction": "forward", "shape": "2048×50×128", "dtype": "bfloat16"}
    assert gpu_kernels.least_bytes(case) == 3 * 2 * 2048 * 50 * 128  # a, b and h
    both = case | {"operator": "bdlru with z", "direction": "forward and backward", "dtype": "float32"}
    # Forward: read x, two gates and z; write y.  Backward: read the same inputs and y's gradient; write four
    # gradients.
    assert gpu_kernels.least_bytes(both) == (5 + 5 + 4) * 4 * 2048 * 50 * 128


def test_ours_is_compared_with_the_copy_and_with_every_peer() -> None:
    case = {"operator": "scan", "direction": "forward", "shape": "4×64×16", "dtype": "float32"}
    samples = {"recblr": [2.0, 2.2], "copy": [1.9, 1.9], "fla, chunked": [4.0, 4.4]}
    shown = gpu_kernels.figures(gpu_kernels.Result(case, [samples]), {"fla, recurrent": "not installed"})
    beside = {figure.beside: figure for figure in shown}
    assert beside["copy"].value.median == pytest.approx(0.907, abs=0.01)
    assert (beside["copy"].bar, beside["copy"].verdict()) == (0.9, True)
    assert (beside["fla, chunked"].value.median, beside["fla, chunked"].verdict()) == (2.0, True)
    assert beside["fla, recurrent"].note == "not installed"
    (alone,) = gpu_kernels.figures(gpu_kernels.Result(case, [{}]), {"recblr": "no kernel image"})
    assert (alone.value, alone.note) == (None, "no kernel image")


def test_a_contender_that_makes_the_gpu_unusable_does_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, dict[str, str]]] = []

    def measure(case: dict[str, str], which: str, quick: bool, left_out: dict[str, str]) -> Any:
        ran.append((case["direction"], left_out))
        if case["operator"] == "scan" and case["direction"] == "forward" and "a peer" not in left_out:
            raise gpu_kernels.gpu_timing.LostGPU("a peer", "an illegal address")
        return gpu_kernels.Result(case, [{"recblr": [1.0], "copy": [1.0]}]), left_out

    monkeypatch.setattr(gpu_kernels, "measure", measure)
    monkeypatch.setattr(gpu_kernels, "DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    lines = tmp_path / "lines"
    call = lambda: gpu_kernels.main("peers", "4×64×16", lines, True, "")  # noqa: E731
    assert call() == gpu_shapes.LOST_STATUS
    assert ran == [("forward", {})]
    assert call() == 0
    assert all(left_out == ({"a peer": "an illegal address"} if direction == "forward" else {})
               for direction, left_out in ran[1:])  # fmt: skip
    records = gpu_report.json_lines(lines)
    assert len(records) == 1 + len(gpu_kernels.cases("4×64×16"))
    ran.clear()
    assert call() == 0
    assert not ran


def record(name: str, dtype: str, which: str, **samples: list[float]) -> dict[str, Any]:
    case = {"operator": name, "direction": "forward", "shape": "4×64×16", "dtype": dtype}
    result = gpu_kernels.Result(case, [{key.replace("_", " "): value for key, value in samples.items()}])
    return {"pass": which} | gpu_kernels.as_json(result, gpu_kernels.figures(result, {"recblr": "no memory"}))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The files of stages that were killed before they ended."""
    folder = tmp_path / "work"
    (folder / "run").mkdir(parents=True)
    records = [
        record("scan", "float32", "ours", recblr=[2.0], copy=[1.0]),
        record("scan", "bfloat16", "ours"),
        record("bdlru", "float32", "peers", recblr=[2.0], copy=[1.9], composed=[8.0]),
    ]
    lines = "".join(json.dumps(each) + "\n" for each in records)
    (folder / "kernels.jsonl").write_text(lines + '{"pass": "pe')
    test = {"id": "a.py::test", "outcome": "passed", "when": "call", "seconds": 0.1, "text": ""}
    (folder / "tests.jsonl").write_text(json.dumps(test) + "\n")
    (folder / "memcheck.log").write_text("========= ERROR SUMMARY: 0 errors\n")
    (folder / "tests.log").write_text("x" * 3_000_000)
    epoch = {"device": "cuda:0", "train_seconds": 2.0, "valid_seconds": 0.5, "targets": 10, "loss": 7.0,
             "valid": {"unmasked": {"ndcg@10": 0.2}}, "best_epoch": 1}  # fmt: skip
    (folder / "run" / "log.jsonl").write_text(json.dumps(epoch) + "\n")
    return folder


def test_all_results_are_written_into_few_small_files(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outcomes = [stages.Outcome("tests", "done", 1.0), stages.Outcome("memcheck", "out of time", 2.0, "…")]
    found = gpu_report.keep(out, {"benchmark": "gpu"}, work, [outcomes[0]])
    assert not set(json.loads((out / "gpu.json").read_text())["stages"][0].items()) ^ set(
        {"name": "tests", "status": "done", "seconds": 1.0, "why": ""}.items()
    )
    assert found["memcheck"]["summaries"] == ["ERROR SUMMARY: 0 errors"]
    assert found["train"]["seconds"] == [2.0]
    assert len(found["kernels"]) == 3
    (work / "memcheck.log").touch()
    gpu_report.keep(out, {}, work, outcomes)
    assert {file.name for file in out.iterdir()} == {"gpu.json", "tests.xml", "train.jsonl", "logs.tgz"}
    assert sum(file.stat().st_size for file in out.iterdir()) < 1 << 20
    with tarfile.open(out / "logs.tgz") as logs:
        assert logs.getmember("tests.log").size == gpu_report.LARGEST_LOG


def test_the_summary_has_a_line_for_each_result(work: Path) -> None:
    lines = "\n".join(gpu_report.summary(gpu_report.document({}, work, [])))
    assert "tests: 1 passed, 0 failed, 0 skipped" in lines
    assert "memcheck: ERROR SUMMARY: 0 errors, in 0 tests that passed" in lines
    assert " 0.50 missed         none" in lines
    assert "bdlru, forward, composed: 4.0 times as fast, from 4.0 to 4.0 in 1 cases" in lines
    assert "train: 1 epochs of 2.00 s, NDCG@10 0.2000 on validation" in lines


def test_the_picture_shows_the_shares_of_a_copy(work: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = [
        sys.executable,
        BENCHMARKS / "gpu_picture.py",
        work / "kernels.jsonl",
        tmp_path / "kernels.svg",
    ]
    subprocess.run(list(map(str, command)), check=True)
    assert "recblr beside copy" in (tmp_path / "kernels.svg").read_text(encoding="utf-8")


def test_only_old_results_of_the_wanted_stages_are_removed(work: Path) -> None:
    gpu._remove_old_results(work, ["kernels", "train"])
    assert not (work / "kernels.jsonl").exists()
    assert not (work / "run").exists()
    assert (work / "tests.jsonl").exists()
    shutil.rmtree(work)
    gpu._remove_old_results(work, NAMES)
