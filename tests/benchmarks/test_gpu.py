"""The command that measures on a GPU: its budget, what a failure leaves, its report.  Needs no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.harness import BENCHMARKS
from training.tiny_runs import tiny_config, tiny_dataset

from recblr.evaluation import write_report
from recblr.training import Run, train
from recblr.training.evaluate import evaluate_run

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(BENCHMARKS)
    phases, gpu, gpu_kernels, gpu_encoder, measuring = map(
        import_module, ("phases", "gpu", "gpu_kernels", "gpu_encoder", "measuring")
    )

Phase = phases.Phase


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def test_a_failing_phase_is_told_of_and_takes_no_other_with_it(tmp_path: Path) -> None:
    told: list[int] = []
    outcomes = phases.run_phases(
        [
            Phase("first", python("print('fine')")),
            Phase(
                "second",
                python("import os, sys; print(os.environ['WORD']); sys.exit(3)"),
                environment={"WORD": "alas"},
            ),
            Phase("third", python("pass")),
        ],
        60,
        tmp_path,
        lambda outcomes: told.append(len(outcomes)),
    )
    assert [(o.name, o.status, o.why) for o in outcomes] == [
        ("first", "done", ""),
        ("second", "failed", "alas"),
        ("third", "done", ""),
    ]
    assert told == [1, 2, 3]
    assert (tmp_path / "first.log").read_text() == "fine\n"


def test_what_takes_longer_than_it_may_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    child = f"import subprocess; subprocess.Popen({[*python('import time; time.sleep(600)')]!r}).wait()"
    code = f"print('begun', flush=True); {child}"
    (outcome,) = phases.run_phases([Phase("slow", python(code), most=1.5)], 60, tmp_path)
    assert (outcome.status, outcome.why) == ("out of time", "begun")
    assert outcome.seconds < 30


def test_a_phase_that_the_budget_leaves_too_little_time_is_skipped(tmp_path: Path) -> None:
    times = iter([0.0, 0.0, 90.0, 101.0])
    outcomes = phases.run_phases(
        [
            Phase("build", python("pass"), least=50),
            Phase("tests", python("pass"), least=20),
            Phase("train", python("pass"), least=0),
        ],
        100,
        tmp_path,
        clock=lambda: next(times),
    )
    assert [(o.status, o.why) for o in outcomes] == [
        ("done", ""),
        ("skipped", "10 s of the budget were left"),
        ("skipped", "0 s of the budget were left"),
    ]


def test_what_cannot_run_says_why(tmp_path: Path) -> None:
    (outcome,) = phases.run_phases([Phase("memcheck", why_not="no sanitizer")], 60, tmp_path)
    assert (outcome.status, outcome.why) == ("skipped", "no sanitizer")


def test_without_a_gpu_it_ends_with_one_sentence(tmp_path: Path) -> None:
    if not gpu.no_gpu():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu.py", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("benchmarks/gpu.py: this needs a GPU, and torch")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_phase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--only: dance is none of build, "):
        gpu.main(["--out", str(tmp_path), "--only", "build,dance"])


def test_the_phases_are_those_of_its_help_and_fit_the_budget(tmp_path: Path) -> None:
    options = gpu.parser().parse_args(["--out", str(tmp_path)])
    planned = gpu.phases(options)
    assert {phase.name for phase in planned} == set(gpu.NAMES)
    assert sum(phase.least for phase in planned) < options.budget < 9 * 60
    (train,) = (phase for phase in planned if phase.name == "train")
    assert train.why_not == "no --data"
    only = gpu.phases(gpu.parser().parse_args(["--out", str(tmp_path), "--only", "kernels,tests"]))
    assert [phase.name for phase in only] == ["tests", "kernels"]


def test_it_trains_on_the_gpu_with_the_defaults_and_native_kernels(tmp_path: Path) -> None:
    data, out = tmp_path / "d.inter", tmp_path / "out"
    words = ["--data", str(data), "--out", str(out), "--only", "train"]
    (train,) = gpu.phases(gpu.parser().parse_args(words))
    assert train.why_not == ""
    assert train.environment == {"RECBLR_REQUIRE_NATIVE": "1"}
    expected = ["-m", "recblr.cli", "train", data, "--device", "cuda", "--out", out / "trained"]
    assert list(train.command[1:]) == expected
    (quick,) = gpu.phases(gpu.parser().parse_args([*words, "--quick"]))
    assert list(quick.command[-2:]) == ["--epochs", "1"]


def test_a_training_is_told_by_its_epochs_and_its_test_figures(tmp_path: Path) -> None:
    assert gpu.training_of(tmp_path) is None
    run = Run(tmp_path)
    train(tiny_dataset(), run, tiny_config(epochs=2))
    ended = gpu.training_of(tmp_path)  # by the budget, say
    log = run.log()
    assert ended["device"] == "cpu"
    assert ended["seconds"] == [record.train_seconds for record in log]
    assert ended["valid"] == [record.valid["unmasked"]["ndcg@10"] for record in log]
    assert ended["test"] is None
    assert gpu.training_line(ended).startswith("training on cpu: 2 epochs of ")
    assert gpu.training_line(ended).endswith(" s, ended by the budget")
    report = evaluate_run(run)
    write_report(report, run.report_file)
    whole = gpu.training_of(tmp_path)
    test = report["ours"]["test"]
    assert whole["test"]["masked"]["hr@10"] == test["masked"]["hr@10"]["mean"]
    assert f"unmasked ndcg@10 {test['unmasked']['ndcg@10']['mean']:.4f}" in gpu.training_line(whole)
    json.dumps(whole)


def test_it_writes_after_every_phase_and_ends_with_the_names_of_those_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    written = f"json.load(open({str(tmp_path / 'gpu.json')!r}))['phases']"
    look = f"import json; print(len({written})); raise SystemExit(1)"
    monkeypatch.setattr(gpu, "no_gpu", lambda: "")
    monkeypatch.setattr(gpu, "gpu_of_this_machine", lambda: {"name": "none"})
    monkeypatch.setattr(
        gpu, "phases", lambda _: [Phase("build", python("pass")), Phase("tests", python(look))]
    )
    with pytest.raises(SystemExit, match=r"^not done, see above: tests$"):
        gpu.main(["--out", str(tmp_path)])
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert [(p["status"], p["why"]) for p in report["phases"]] == [("done", ""), ("failed", "1")]
    assert report["machine"]["gpu"] == {"name": "none"}
    assert "build: done" in capsys.readouterr().out


def test_every_case_has_its_words_and_its_calls() -> None:
    for quick in (False, True):
        cases = gpu_kernels.cases(quick)
        assert len({json.dumps(case) for case in cases}) == len(cases)
        for case in cases:
            calls = gpu_kernels.contenders(case, None)
            assert gpu_kernels.OURS in calls
            assert set(calls) <= {gpu_kernels.OURS, *gpu_kernels.PEERS}


@pytest.mark.parametrize("case", gpu_kernels.cases(True), ids=lambda case: ", ".join(case.values()))
def test_the_calls_compute_what_they_say(case: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_kernels, "DEVICE", "cpu")
    offsets = gpu_kernels.offsets_of(case["shape"])
    calls = gpu_kernels.contenders(case, offsets)
    given = gpu_kernels.arguments(case)()
    wanted = calls["recblr"](*given)
    for name in {"composed", "torch associative_scan"} & set(calls):
        for ours, theirs in zip(
            *(x if isinstance(x, tuple) else (x,) for x in (wanted, calls[name](*given))), strict=True
        ):
            scale = float(theirs.detach().abs().max())
            torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * scale)


CASE = {"operator": "scan", "direction": "forward", "shape": "4×64×16", "dtype": "float32"}
LINES: list[dict[str, Any]] = [
    {"copy": 4e12},
    {
        "case": CASE,
        "samples": {"recblr": [2.0, 2.2], "copy's time": [1.9, 1.9], "fla, chunked": [4.0, 4.4]},
        "failed": {"accelerated-scan, warp": "ModuleNotFoundError: No module named 'accelerated_scan'"},
    },
    {"case": CASE | {"dtype": "bfloat16"}, "samples": {}, "failed": {"recblr": "no kernel image"}},
]


def test_what_was_measured_before_it_ended_is_in_the_report(tmp_path: Path) -> None:
    whole = "".join(json.dumps(line) + "\n" for line in LINES)
    (tmp_path / "kernels.jsonl").write_text(whole + '{"case": {"operator"')
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite tests="9" skipped="1" failures="2" errors="0"/></testsuites>'
    )
    options = gpu.parser().parse_args(["--out", str(tmp_path)])
    report = gpu.document(options, {}, [phases.Outcome("kernels", "out of time", 200.0, "…")])
    assert report["copy_bytes_per_second"] == 4e12
    assert report["tests"] == {"passed": 6, "failed": 2, "skipped": 1}
    assert report["phases"][0]["status"] == "out of time"
    first, second = report["results"]
    floor, *peers = first["figures"]
    assert (floor["value"]["median"], floor["bar"], floor["reached"]) == (
        pytest.approx(0.907, abs=0.01),
        0.9,
        True,
    )
    assert {p["beside"]: p["note"] or p["reached"] for p in peers} == {
        "accelerated-scan, warp": "ModuleNotFoundError: No module named 'accelerated_scan'",
        "fla, chunked": True,
    }
    assert [f["note"] for f in second["figures"]] == ["no kernel image"]
    json.dumps(report)


def test_the_summary_shows_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "kernels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    record = {
        "case": {"B": 2, "T": 32},
        "samples": {"RecBLR": [1.0], "SASRec, FFN 4d": [2.0], "RecBLR's memory": [5.0],
                    "SASRec, FFN 4d's memory": [10.0]},
        "failed": {"SASRec, FFN d": "no flash attention"},
        "tokens_per_second": {"RecBLR": 64.0, "SASRec, FFN 4d": 32.0},
    }  # fmt: skip
    (tmp_path / "encoder.jsonl").write_text(json.dumps(record) + "\n")
    gpu.summary(tmp_path, gpu.Console(width=150))
    said = capsys.readouterr().out
    assert "a copy moves 4,000 GB/s" in said
    assert "reached" in said
    assert "no kernel image" in said
    assert "RecBLR's memory" in said
    assert "</svg>" in (tmp_path / "gpu.svg").read_text(encoding="utf-8")
