"""`recblr export`: the file for a server, from a run or a model file."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cli.command import SMALL, items_in, recblr, succeeds
from run import sealed

from recblr.run.folder import Run
from recblr.run.model_content import read_for_serving, read_model_file, write_model_file
from recblr.run.model_items import with_items, without_items


def refused(*words: str | Path) -> str:
    seen = recblr(*words)
    assert (seen.code, seen.out, seen.err.count("\n")) == (2, "", 1)
    return seen.err


def test_the_file_of_a_run_is_its_model_file(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    printed = succeeds("export", finished, out)
    assert out.read_bytes() == Run(finished).model_file.read_bytes()
    items, size = Run(finished).dataset().num_items, out.stat().st_size
    assert printed == (
        f"{out}: {items} items, {size / 1e6:.1f} MB; knows the order of events, and no times;"
        " needs no histories\n"
    )


def test_a_model_file_is_exported_and_an_older_file_replaced(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    out.write_text("old")
    succeeds("export", finished / "model.safetensors", out)
    assert read_for_serving(out).item_ids == Run(finished).dataset().item_ids
    before = out.read_bytes()
    succeeds("export", out, out)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(
    ("time", "says"),
    [
        ("none", "knows the order of events, and no times; "),
        ("past", "knows the times of events; "),
        ("request", "knows the times of events and of the request; "),
    ],
)
def test_the_line_says_what_the_model_needs(tmp_path: Path, time: str, says: str) -> None:
    pairs = [(user, item) for user in range(20) for item in range(user % 3, 12)]
    rows = [f"{user},{item},{1_600_000_000 + 1000 * user + item}" for user, item in pairs]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    words = ("--k-core", "0", "--epochs", "1", "--time", time, "--max-length", "7", *SMALL)
    succeeds("train", tmp_path / "log.csv", "--out", tmp_path / "run", *words)
    printed = succeeds("export", tmp_path / "run", tmp_path / "m.safetensors")
    assert says in printed
    assert printed.endswith("needs the last 7 events of each user\n")


def test_a_run_with_a_file_of_format_1_gives_one_with_item_ids(run: Path, tmp_path: Path) -> None:
    def make_format_1(tensors: sealed.Tensors, header: sealed.Header) -> None:
        tensors.pop("item_ids")
        for name in ("format", "version", "metrics", "digest"):
            del header[name]

    sealed.rewrite(run / "model.safetensors", make_format_1)
    assert "which has no item ids" in refused("export", run / "model.safetensors", tmp_path / "m.safetensors")
    succeeds("export", run, tmp_path / "m.safetensors")  # the remedy
    assert read_for_serving(tmp_path / "m.safetensors").item_ids == Run(run).dataset().item_ids


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_a_baseline_is_refused(model: str, data: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "m.safetensors"
    succeeds("train", data, "--out", run, "--model", model, "--k-core", "0", "--epochs", "1", *SMALL)
    for source in (run, run / "model.safetensors"):
        said = refused("export", source, out)
        assert f"holds the baseline {model}, which cannot be served event by event" in said
        assert "`recblr train DATA --out RUN`, then `recblr export RUN model.safetensors`" in said
    assert not out.exists()


def test_mistakes_give_one_sentence_and_no_file(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    assert "does not look like a model file; end it in .safetensors" in refused("export", run, run)
    assert "there is no nowhere; give the folder" in refused("export", "nowhere", out)
    assert "holds no run" in refused("export", tmp_path, out)
    assert "cannot write" in refused("export", run, tmp_path / "none" / "m.safetensors")
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-1])
    for source in (run, run / "model.safetensors"):
        assert "is damaged or truncated" in refused("export", source, out)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# --- items that are changed after training


def test_changed_items_survive_the_export(finished: Path, tmp_path: Path) -> None:
    saved = read_for_serving(finished / "model.safetensors")
    ids, rows = saved.item_ids, saved.table
    changed = without_items(with_items(saved, ["new"], like=[ids[:2]]), [ids[3]])
    write_model_file(tmp_path / "changed.safetensors", changed)
    printed = succeeds("export", tmp_path / "changed.safetensors", tmp_path / "m.safetensors")
    assert f": {len(ids) + 1} items (1 retired), " in printed
    found = read_for_serving(tmp_path / "m.safetensors")
    assert (found.item_ids, found.retired) == ([*ids, "new"], (3,))
    assert found.table[-1] == pytest.approx((rows[0] + rows[1]) / 2)


def test_recommend_leaves_retired_items_out_and_evaluate_refuses_them(run: Path) -> None:
    words = ("recommend", run, "--user", "u1", "-k", "3")
    best = items_in(succeeds(*words))
    file = run / "model.safetensors"
    write_model_file(file, without_items(read_for_serving(file), best[:2]))
    left = items_in(succeeds(*words))
    assert left[0] == best[2]
    assert not set(left) & set(best[:2])
    for words in (("evaluate", run), ("train", "--out", run, "--resume")):
        seen = recblr(*words)
        assert (seen.code, seen.err.count("\n")) == (2, 1)
        assert f"{file} has 2 retired item(s)" in seen.err
        assert "restore the file that the training wrote" in seen.err


def test_a_file_with_new_items_belongs_outside_of_the_run(run: Path, tmp_path: Path) -> None:
    file = run / "model.safetensors"
    saved = read_for_serving(file)
    write_model_file(file, with_items(saved, ["new"], saved.table[:1]))
    out = tmp_path / "m.safetensors"
    for words in (["evaluate", run], ["recommend", run, "--user", "u1"], ["export", run, out]):
        assert "has 1 new item(s), which the data of the run do not know" in refused(*words)
    outside = Path(shutil.copy(file, tmp_path / "copy.safetensors"))
    succeeds("export", outside, out)
    write_model_file(file, replace(read_model_file(file), item_ids=[*saved.item_ids[1:], "x", "y"]))
    assert "its item ids differ" in refused("evaluate", run)
