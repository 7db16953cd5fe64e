"""`recblr download` prints the terms and the next commands.  An error gives one sentence and no file."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from cli.command import SMALL, at, recblr, succeeds
from data.publisher import publish

from recblr.data import download as downloads


@pytest.fixture
def publisher(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return publish(tmp_path_factory.mktemp("publisher"), monkeypatch)


def test_the_terms_are_printed_first_and_the_printed_commands_work(tmp_path: Path, publisher: Path) -> None:
    with at(tmp_path):
        out = succeeds("download", "ml-1m", "--from", publisher)
        assert out.index("research") < out.index("ml-1m-README.txt") < out.index("ml-1m is complete")
        train, recommend = (shlex.split(line) for line in out.splitlines() if line.startswith("  recblr "))
        assert train == ["recblr", "train", "ml-1m/ratings.dat", "--out", "run"]
        succeeds(*train[1:], *SMALL, "--epochs", "1")
        assert "Amélie" in succeeds(*recommend[1:], "--include-seen")


def test_another_folder_can_be_given(tmp_path: Path, publisher: Path) -> None:
    with at(tmp_path):
        out = succeeds("download", "ml-100k", "--from", publisher.as_uri(), "--to", "my films")
        assert "recblr train 'my films/u.data' --out run" in out
        assert sorted(path.name for path in Path("my films").iterdir()) == ["README", "u.data", "u.item"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ml-2m"], "there is no dataset 'ml-2m' to download; choose one of ml-1m, ml-100k"),
        (["ml-1m", "--from", "no/such/folder"], "cannot fetch file:///"),
        (["ml-1m", "--to", "taken"], "taken is there already"),
        (["ml-1m", "--to", "none/films"], "cannot write none/films: No such file"),
    ],
)
def test_an_error_is_one_sentence(tmp_path: Path, publisher: Path, words: list[str], says: str) -> None:
    with at(tmp_path):
        Path("taken").mkdir()
        source = [] if "--from" in words else ["--from", str(publisher)]
        seen = recblr("download", *words, *source)
        assert seen.code == 2
        assert seen.err.startswith(f"recblr: {says}")
        assert seen.err.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_ctrl_c_says_that_nothing_was_saved(
    tmp_path: Path, publisher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "_fetch", press)
    with at(tmp_path):
        seen = recblr("download", "ml-1m", "--from", publisher)
        assert seen.code == 130
        command = shlex.join(["recblr", "download", "ml-1m", "--from", str(publisher)])
        assert seen.err == f"recblr: stopped; nothing was saved: start again with {command}\n"
        assert list(tmp_path.iterdir()) == []
