"""A search for a recipe: what it writes, how it continues, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.harness import load

pytest.importorskip("optuna", reason="a search needs optuna, which is in the extra `bench`")
program = load("search")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users with 8 of 12 items each."""
    path = tmp_path_factory.mktemp("data") / "tiny.txt"
    lines = (" ".join(str(1 + (user * 5 + event * 7) % 12) for event in range(8)) for user in range(40))
    path.write_text("".join(f"{user + 1} {items}\n" for user, items in enumerate(lines)))
    return path


@pytest.fixture(autouse=True)
def _memory_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the program from changing the memory settings of the test process."""
    monkeypatch.setattr(program, "keep_freed_memory", lambda: None)


def search(data: Path, out: Path, *options: str) -> None:
    """Run a search of one trial."""
    arguments = [str(data), "--out", str(out), "--hours", "0.00001", "--epochs", "2", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["search.py", *arguments])
        program.main()


def refusal(*arguments: Any) -> str:
    """The message with which the search exits."""
    with pytest.raises(SystemExit) as exit_:
        search(*arguments)
    assert isinstance(exit_.value.code, str)
    return exit_.value.code


def trials(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "search.json").read_text())["trials"]
    return found


def test_a_search_begins_with_the_defaults_and_can_be_continued(data: Path, tmp_path: Path) -> None:
    fix = "--fix", "dropout=0.5", "weight-decay=0", "warmup=0", "d-model=8", "ema=0.9"
    search(data, tmp_path, *fix)
    (first,) = trials(tmp_path)
    assert first["options"] == {"learning-rate": 0.002, "batch-tokens": 128, "label-smoothing": 0.1}
    assert first["state"] == "COMPLETE"
    assert first["epochs"] == 2
    assert first["valid"]["unmasked"].keys() == {"hr@10", "ndcg@10", "mrr@10"}
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")

    search(data, tmp_path, "--between", "learning-rate=0.01..0.02", *fix)
    again, second = trials(tmp_path)
    assert again == first
    assert second["number"] == 1
    assert 0.01 <= second["options"]["learning-rate"] <= 0.02

    assert "holds a search of other data or epochs" in refusal(data, tmp_path, "--epochs", "3", *fix)
    assert len(trials(tmp_path)) == 2


@pytest.mark.parametrize("line", ["garbage", '{"op_code": 0, "worker_id": "w"}', '{"op_code": 99}', "\x00"])
def test_a_damaged_journal_is_named_and_kept(line: str, data: Path, tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    journal.write_text(f"{line}\n")
    assert refusal(data, tmp_path).startswith(f"{journal} is damaged")
    assert journal.read_text().startswith(f"{line}\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fix", "dropuot=0.5"], "there is no option dropuot"),
        (["--fix", "dropout=high"], "dropout takes a value of the type float"),
        (["--fix", "dropout=2"], "dropout must lie in [0, 1)"),
        (["--between", "ema=0..1"], "choose an option among learning-rate, dropout, label-smoothing"),
        (["--between", "dropout=high"], "write two numbers, as in --between dropout=0.1..0.3"),
        (["--between", "dropout=0.3..0.1"], "write the lower number first"),
        (["--between", "dropout=0.3..2"], "dropout must lie in [0, 1)"),
        (["--fix", *(f"{key}=0" for key in program.SPACE)], "--fix leaves no option to search for"),
    ],
)
def test_wrong_options_are_refused_with_a_message(
    options: list[str], message: str, data: Path, tmp_path: Path
) -> None:
    assert message in refusal(data, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_an_out_folder_that_is_a_file_is_refused(data: Path) -> None:
    assert "cannot create this folder" in refusal(data, data)
    assert data.read_text().startswith("1 ")


def test_a_first_trial_that_diverges_ends_the_search(data: Path, tmp_path: Path) -> None:
    assert "training has diverged" in refusal(data, tmp_path, "--fix", "learning-rate=1e38")
