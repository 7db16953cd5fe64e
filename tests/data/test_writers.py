"""An atomic file that was written reads back as the same dataset."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from data.packing import dataset

from recblr.data import read_dataset, write_inter
from recblr.errors import InputError


@pytest.mark.parametrize("name", ["shop.inter", "shop.inter.gz"])
def test_a_written_dataset_reads_back_unchanged(tmp_path: Path, name: str) -> None:
    original = dataset([[0, 1, 1], [2, 0]], users=['the "first"', "Zoë"])
    write_inter(original, tmp_path / name)
    assert read_dataset(tmp_path / name, k_core=0).fingerprint == original.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("times", [[9, 9, 2**62, 3, 4], [0.1, 1e-9, 1 / 3, -5.5, 1706659200.000001]])
def test_times_keep_their_last_digit(tmp_path: Path, times: list[float]) -> None:
    original = dataset([[0, 1, 1], [2, 0]], times=[*sorted(times[:3]), *sorted(times[3:])])
    write_inter(original, tmp_path / "shop.inter")
    again = read_dataset(tmp_path / "shop.inter", k_core=0)
    assert original.times is not None
    assert again.times is not None
    assert again.times.tolist() == original.times.tolist()
    assert again.fingerprint == original.fingerprint


def test_the_file_has_the_form_of_recbole_and_increasing_times(tmp_path: Path) -> None:
    write_inter(dataset([[0, 1], [2]]), tmp_path / "shop.inter")
    assert (tmp_path / "shop.inter").read_text() == (
        "user_id:token\titem_id:token\ttimestamp:float\nuser0\tapple\t1\nuser0\tbanana\t2\nuser1\tcherry\t3\n"
    )


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.inter.gz", "two.inter.gz"):
        write_inter(dataset([[0, 1]]), tmp_path / name)
    content = (tmp_path / "one.inter.gz").read_bytes()
    assert content == (tmp_path / "two.inter.gz").read_bytes()
    assert gzip.decompress(content).startswith(b"user_id:token")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the name shop\.csv is not one of an atomic file"):
        write_inter(dataset([[0]]), tmp_path / "shop.csv")


@pytest.mark.parametrize("token", ["a\tb", "a\nb", " a", ""])
def test_an_id_that_the_file_cannot_keep_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(InputError, match="cannot be written to a file separated by tabs"):
        write_inter(dataset([[0]], items=[token]), tmp_path / "shop.inter")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*shop\.inter: .*choose a folder that exists"):
        write_inter(dataset([[0]]), tmp_path / "nowhere" / "shop.inter")


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shop.inter"
    write_inter(dataset([[0]]), path)
    before = path.read_bytes()

    def disk_full(self: Path, content: bytes) -> int:
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(InputError, match="No space left on device"):
        write_inter(dataset([[1, 2]]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
