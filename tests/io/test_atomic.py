"""Files and folders are written completely or not at all, and no draft is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from recblr.errors import InputError
from recblr.io.atomic import atomic_folder, atomic_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")
    with atomic_path(file) as draft:
        draft.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_is_unchanged_if_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_text("old")

    def write() -> None:
        with atomic_path(tmp_path / "a") as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_gives_an_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised, atomic_path(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert raised.value.problem == f"cannot write {tmp_path / 'a'}: No space left on device"
    assert raised.value.remedy == "choose a folder that exists, can be written to and has room"
    assert names(tmp_path) == []


def test_a_file_that_the_block_reads_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="log"), atomic_path(tmp_path / "a"):
        (tmp_path / "log").read_text()
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["nowhere/a", "file/a"])
def test_a_file_outside_any_folder_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="choose a folder that exists"), atomic_path(tmp_path / place):
        pass
    assert names(tmp_path) == ["file"]


def test_a_folder_exists_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new") as draft:
        (draft / "a").write_text("1")
        assert not (tmp_path / "new").exists()
    assert names(tmp_path) == ["new"]
    assert (tmp_path / "new" / "a").read_text() == "1"


def test_no_folder_is_left_if_the_block_fails(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "new") as draft:
            (draft / "a").write_text("1")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write()
    assert names(tmp_path) == []


def test_a_folder_with_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    with (
        pytest.raises(InputError, match=f"cannot write {tmp_path / 'mine'}"),
        atomic_folder(tmp_path / "mine"),
    ):
        pass
    assert names(tmp_path) == ["mine"]
    assert (tmp_path / "mine" / "notes").read_text() == "mine"
