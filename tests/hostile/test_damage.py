"""A truncated or changed run or data file works as before or gives one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard
from cli.command import at, recblr
from hostile.damaging import POSITIONS, damage, sentence
from hostile.rows import HEADER, ROWS, assert_one_sentence, in_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training.tiny_runs import contents

from recblr.data import Dataset, read_dataset

MODEL = "model.safetensors"
# The files of a run that each command reads.  Damage in other files has no effect on it.
READ = {
    "recommend": ["run.json", "config.toml", MODEL],
    "evaluate": [
        "log.jsonl",
        "dataset/histories.parquet",
        "dataset/catalogue.parquet",
        "dataset/dataset.json",
    ],
    "train": [f"checkpoints/epoch-0002/{name}" for name in (MODEL, "optimizer.safetensors", "progress.json")],
}
WORDS = {
    "recommend": ["recommend", "run", "--user", "u1"],
    "evaluate": ["evaluate", "run"],
    "train": ["train", "--out", "run", "--resume"],
}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=POSITIONS, bits=st.integers(0, 255), which=st.integers(0, 99))
@pytest.mark.parametrize("command", WORDS)
def test_a_damaged_run_works_or_gives_one_sentence(
    command: str,
    finished: Path,
    tmp_path_factory: pytest.TempPathFactory,
    position: float,
    bits: int,
    which: int,
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    run = Path(shutil.copytree(finished, folder / "run"))
    file = run / READ[command][which % len(READ[command])]
    file.write_bytes(damage(file.read_bytes(), position, bits))
    before = contents(folder)
    with at(folder), in_time():
        seen = recblr(*WORDS[command])
    if seen.code:
        assert_one_sentence(seen, ("run",))
        assert contents(folder) == before
    else:
        assert seen.err == ""
    shutil.rmtree(folder)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=POSITIONS, bits=st.integers(0, 255))
@pytest.mark.parametrize("name", ["histories.parquet", "catalogue.parquet"])
def test_a_damaged_table_of_a_saved_dataset_never_reaches_polars(
    name: str, finished: Path, tmp_path: Path, position: float, bits: int
) -> None:
    # One flipped bit can make polars ask for gigabytes and abort the process, which nothing can catch.
    folder = Path(shutil.copytree(finished / "dataset", tmp_path / "dataset", dirs_exist_ok=True))
    file = folder / name
    file.write_bytes(damage(file.read_bytes(), position, bits))
    read, seen = pl.read_parquet, []

    def spy(content: bytes) -> pl.DataFrame:
        seen.append(content)
        return read(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl, "read_parquet", spy)
        complaint = sentence(lambda: Dataset.load(folder))
    assert complaint == f"the dataset saved in {folder} is damaged; read the data file again"
    assert file.read_bytes() not in seen


def as_parquet(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    pl.read_csv(raw).write_parquet(buffer)
    return buffer.getvalue()


def as_zip(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", raw)
    return buffer.getvalue()


LOG = (HEADER + ROWS).encode()
FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "log.csv": bytes,
    "log.csv.gz": lambda raw: gzip.compress(raw, mtime=0),
    "log.inter": lambda raw: raw.replace(b",", b"\t"),
    "log.dat": lambda raw: raw.partition(b"\n")[2].replace(b",", b"::").replace(b"::i", b"::5::i"),
    "log.txt": lambda raw: b"\n".join(b" ".join(row.split(b",")[:2]) for row in raw.splitlines()),
    "log.parquet": as_parquet,
    "log.jsonl": lambda raw: pl.read_csv(raw).write_ndjson().encode(),
    "log.csv.bz2": bz2.compress,
    "log.csv.xz": lzma.compress,
    "log.csv.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    "log.csv.zip": as_zip,
}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=POSITIONS, bits=st.integers(0, 255))
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_data_file_is_read_or_gives_one_sentence(
    name: str, tmp_path: Path, position: float, bits: int
) -> None:
    file = tmp_path / name
    file.write_bytes(damage(FORMATS[name](LOG), position, bits))
    with in_time():
        complaint = sentence(lambda: read_dataset(file, k_core=0))
    assert complaint is None or (name in complaint and "\n" not in complaint)


def test_a_panic_in_polars_gives_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("assertion failed")

    file = tmp_path / "log.parquet"
    file.write_bytes(as_parquet(LOG))
    monkeypatch.setattr(pl, "read_parquet", panic)
    assert (
        sentence(lambda: read_dataset(file)) == f"{file} is a damaged Parquet file; fetch or write it again"
    )
