"""The smallest and the largest valid options and data, which look like mistakes and work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.command import ENVIRONMENT, SMALL, at, items_in, recblr, succeeds
from hostile.rows import HEADER, ROWS, TRAIN, in_time, text

EXTREMES: dict[str, list[str]] = {
    "one event of the history": ["--max-length", "1"],
    "a length above that of every history": ["--max-length", "2147483647"],
    "a width of one": ["--d-model", "1", "--expand", "1", "--d-conv", "1"],
    "an expansion to one channel": ["--expand", "0.0625"],
    "a convolution longer than any history": ["--d-conv", "100"],
    "a batch of one event": ["--batch-tokens", "1"],
    "a batch of everything": ["--batch-tokens", "2147483647"],
    "one prefix in a batch": ["--samples", "prefixes", "--batch-sequences", "1"],
    "one negative": ["--loss", "bpr", "--negatives", "1"],
    "more negatives than items": ["--loss", "sampled-softmax", "--negatives", "5000"],
    "the most patience": ["--patience", "2147483647"],
    "the largest seed": ["--seed", str(2**64 - 1)],
    "almost no learning": ["--learning-rate", "1e-300"],
    "gradients clipped to almost 0": ["--clip-norm", "1e-300"],
    "almost no decay, and the slowest average": ["--weight-decay", "1e-300", "--ema", "0.9999999999999999"],
    "a checkpoint after every step": ["--checkpoint-minutes", "1e-300"],
    "no checkpoint within an epoch": ["--checkpoint-minutes", "0"],
}


@pytest.mark.parametrize("name", EXTREMES)
def test_an_extreme_option_is_accepted(name: str, tmp_path: Path) -> None:
    text(HEADER + ROWS)(tmp_path)
    with at(tmp_path), in_time():
        out = succeeds("train", "log.csv", "--k-core", "0", *TRAIN, *EXTREMES[name])
    assert "written to run/report.json" in out


CONTENTS: dict[str, str] = {
    "one item for all": "user_id,item_id\n" + "ann,tea\n" * 9 + "bob,tea\n" * 9,
    "one user": "user_id,item_id\n" + "".join(f"ann,i{i}\n" for i in range(9)),
    "two items in turn": "user_id,item_id\n" + "ann,tea\nann,oil\n" * 9,
    "times at the edge of floats": HEADER
    + "".join(f"u{u},i{i},{i}e307\n" for u in range(3) for i in range(8)),
    "times at the edge of int64": HEADER + "".join(f"u,i{i},{2**63 - 9 + i}\n" for i in range(8)),
    "times below 0": HEADER + "".join(f"u,i{i},-{i}.5\n" for i in range(8)),
    "equal times": HEADER + "".join(f"u,i{i},7\n" for i in range(8)),
    "ids of a megabyte": HEADER + "".join(f"{'u' * 1_000_000},i{i},{i}\n" for i in range(8)),
    "ids of terminal codes": HEADER + "".join(f"\x1b[31mu,\x07i{i},{i}\n" for i in range(8)),
    "ids of markup": HEADER + "".join(f"[red]u[/],[link=file:///]i{i},{i}\n" for i in range(8)),
    "ids of other scripts": HEADER
    + "".join(f"\u0645\u0633\u062a\u062e\u062f\u0645,\U0001f600{i},{i}\n" for i in range(8)),
    "ids of commas in quotes": HEADER + "".join(f'"a,b","i\n{i}",{i}\n' for i in range(8)),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_training_and_recommending_work_with_extreme_data(name: str, tmp_path: Path) -> None:
    text(CONTENTS[name])(tmp_path)
    with at(tmp_path), in_time():
        succeeds("train", "log.csv", "--k-core", "0", *TRAIN)
        item = "tea" if "tea" in CONTENTS[name] else None
        if item is not None:
            out = succeeds(
                "recommend", "run", "--history", f"{item}, {item},,{item}", "-k", "1000", "--include-seen"
            )
            assert set(items_in(out)) <= {"tea", "oil"}


def test_a_user_who_has_seen_all_items_gets_no_recommendation(tmp_path: Path) -> None:
    text(CONTENTS["one item for all"])(tmp_path)
    with at(tmp_path):
        succeeds("train", "log.csv", "--k-core", "0", *TRAIN)
        seen = recblr("recommend", "run", "--user", "ann")
    assert (seen.code, seen.err) == (0, "")
    assert items_in(seen.out) == []


def test_a_run_of_a_billion_epochs_can_be_started_and_stopped(data: Path, tmp_path: Path) -> None:
    words = [
        "train",
        data,
        "--out",
        "run",
        "--k-core",
        "0",
        *SMALL,
        "--epochs",
        str(10**9),
        "--patience",
        "9999",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "recblr", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "log.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "recblr: stopped; the run is saved: continue with recblr train --out run --resume\n"
