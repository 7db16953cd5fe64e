"""Compressed files are read completely, whatever program wrote them, or refused in one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest
import zstandard
from data.packing import as_ids
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import read_dataset
from recblr.errors import InputError
from recblr.io.compression import decompressed
from recblr.io.reading import read_text

FIRST = b"user_id,item_id\nann,tea\n"
SECOND = b"ann,oil\n"
CSV = FIRST + SECOND
AB = {"ann": ["tea", "oil"]}
JSON = b'{"user":"ann","item":"tea"}\n{"user":"ann","item":"oil"}\n'
# 16 bytes that a decompressor must skip, as pzstd writes them.
SKIPPED = b"\x50\x2a\x4d\x18\x08\0\0\0" + b"\x12" * 8


def zstd(data: bytes) -> bytes:
    """With a checksum, as the program zstd writes it."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"user_id": ["ann", "ann"], "item_id": ["tea", "oil"]}).write_parquet(buffer)
    return buffer.getvalue()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
    ".zip": lambda data: zipped({"log.csv": data}),
}
KINDS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}

# Where the shape is from: the name of the file, its bytes, and the name of the dataset.
GOOD: dict[str, tuple[str, bytes, str]] = {
    **{f"one stream, {suffix}": (f"log.csv{suffix}", make(CSV), "log") for suffix, make in COMPRESS.items()},
    **{
        f"two streams, {suffix} (pigz, pbzip2, cat a{suffix} b{suffix})": (
            f"log.csv{suffix}",
            COMPRESS[suffix](FIRST) + COMPRESS[suffix](SECOND),
            "log",
        )
        for suffix in (".gz", ".bz2", ".xz", ".zst")
    },
    "capital letters": ("LOG.CSV.ZST", zstd(CSV), "LOG"),
    "compressed, but not by its name": ("log.csv", zstd(CSV), "log"),
    "xz with zeros between streams (xz -T)": (
        "l.csv.xz",
        lzma.compress(FIRST) + b"\0" * 8 + lzma.compress(SECOND),
        "l",
    ),
    "xz with zeros at the end": ("l.csv.xz", lzma.compress(CSV) + b"\0" * 4, "l"),
    "gzip with zeros at the end (tape blocks)": ("l.csv.gz", gzip.compress(CSV) + b"\0" * 512, "l"),
    "zstd without its size (zstd < log)": (
        "l.csv.zst",
        zstandard.ZstdCompressor(write_content_size=False).compress(CSV),
        "l",
    ),
    "zstd with frames to skip (pzstd)": (
        "l.csv.zst",
        SKIPPED + zstd(FIRST) + SKIPPED + zstd(SECOND) + SKIPPED,
        "l",
    ),
    "bzip2 with an empty stream": ("l.csv.bz2", bz2.compress(b"") + bz2.compress(CSV), "l"),
    "Pushshift's dumps: JSON Lines as zstd": ("RC_2012.ndjson.zst", zstd(JSON), "RC_2012"),
    "Kaggle's download: the archive has another name": (
        "archive.zip",
        zipped({"ratings.csv": CSV}),
        "archive",
    ),
    "a zip of macOS": (
        "log.csv.zip",
        zipped({"log/": b"", "log/log.csv": CSV, "__MACOSX/log/._log.csv": b"\0", "log/.DS_Store": b"\0"}),
        "log",
    ),
    "a zip whose member has no suffix": ("log.csv.zip", zipped({"export": CSV}), "log"),
    "the member's suffix decides": ("log.csv.zip", zipped({"log.jsonl": JSON}), "log"),
    "a zip without compression": ("log.zip", zipped({"log.csv": CSV}, zipfile.ZIP_STORED), "log"),
    "a zip with bzip2": ("log.zip", zipped({"log.csv": CSV}, zipfile.ZIP_BZIP2), "log"),
    "a zip of a gzip": ("log.zip", zipped({"log.csv.gz": gzip.compress(CSV)}), "log"),
    "tabs in a zip": ("log.zip", zipped({"log.tsv": CSV.replace(b",", b"\t")}), "log"),
    "pairs": ("log.txt.bz2", bz2.compress(b"ann tea\nann oil\n"), "log"),
    "MovieLens": ("ratings.dat.xz", lzma.compress(b"ann::tea::5::1\nann::oil::5::2\n"), "ratings"),
    "Parquet in gzip": ("log.parquet.gz", gzip.compress(parquet()), "log"),
    "Parquet in a zip": ("log.zip", zipped({"part.parquet": parquet()}), "log"),
    "RecBole's .inter in a zip": (
        "ml.zip",
        zipped({"ml/ml.inter": b"user_id:token\titem_id:token\nann\ttea\nann\toil\n"}),
        "ml",
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_it_is_read(tmp_path: Path, case: str) -> None:
    name, content, dataset = GOOD[case]
    (tmp_path / name).write_bytes(content)
    data = read_dataset(tmp_path / name, k_core=0)
    assert as_ids(data) == AB
    assert data.name == dataset


def damaged(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def encrypted() -> bytes:
    """A zip file whose flags say that it needs a password."""
    data = bytearray(zipped({"log.csv": CSV}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


ROWS = CSV + b"".join(b"user%d,item%d\n" % (n, n * n) for n in range(500))
BAD: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    **{
        f"{fault}, {suffix}": (
            f"a.csv{suffix}",
            change(make(ROWS)),
            (f"is a damaged {KINDS[suffix]} file", "again"),
        )
        for suffix, make in COMPRESS.items()
        for fault, change in {
            "cut short": lambda data: data[:-9],
            "cut to half": lambda data: data[: len(data) // 2],
            "changed": damaged,
        }.items()
    },
    **{
        f"more after the end, {suffix}": (
            f"a.csv{suffix}",
            COMPRESS[suffix](CSV) + b"more",
            ("is a damaged",),
        )
        for suffix in (".gz", ".bz2", ".xz", ".zst")
    },
    **{
        f"the second stream cut short, {suffix}": (
            f"a.csv{suffix}",
            COMPRESS[suffix](CSV) + COMPRESS[suffix](ROWS)[:-5],
            ("is a damaged",),
        )
        for suffix in (".gz", ".bz2", ".xz", ".zst")
    },
    **{
        f"by name only, {suffix}": (
            f"a.csv{suffix}",
            CSV,
            (f"is named {suffix} but is not {KINDS[suffix]}", f"rename it without {suffix}"),
        )
        for suffix in COMPRESS
    },
    "a zip of several files": (
        "a.zip",
        zipped({"a.csv": CSV, "b.csv": CSV}),
        ("has 2 files ('a.csv', 'b.csv')", "unpack it"),
    ),
    "a zip of very many files": (
        "a.zip",
        zipped({f"{n}.csv": CSV for n in range(12)}),
        ("has 12 files ('0.csv'", "and 2 more)"),
    ),
    "a zip with a readme": (
        "a.zip",
        zipped({"README.md": b"x", "b.csv": CSV}),
        ("has 2 files", "'README.md'"),
    ),
    "a zip without files": ("a.zip", zipped({"folder/": b""}), ("has no file in it",)),
    "an empty zip": ("a.csv.zip", zipped({}), ("has no file in it",)),
    "a zip with a password": ("a.zip", encrypted(), ("needs a password", "unpack it")),
    "a fault of a row in a zip": (
        "a.zip",
        zipped({"b.csv": CSV + b",x\n"}),
        ("a.zip/b.csv, line 4 has no value in column 'user_id'",),
    ),
    "a line break in the name of a member": (
        "a.zip",
        zipped({"b\n.csv": b"x,y\n1,2\n"}),
        ("a.zip/b?.csv has no column",),
    ),
    "a zip of something else": (
        "a.zip",
        zipped({"b.png": b"x"}),
        ("the name b.png does not show the format",),
    ),
    "a table of Excel": ("a.xlsx", zipped({"xl/a.xml": b"", "xl/b.xml": b""}), ("has 2 files",)),
    "four times": (
        "a.csv.gz",
        gzip.compress(gzip.compress(gzip.compress(gzip.compress(CSV)))),
        ("4 times or more",),
    ),
    "nothing inside": ("a.csv.zst", zstd(b""), ("is empty",)),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_gives_one_sentence(tmp_path: Path, case: str) -> None:
    name, content, says = BAD[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_dataset(tmp_path / name, k_core=0)
    message = str(raised.value)
    assert "\n" not in message
    assert str(tmp_path) in message or "the name" in message
    for part in says:
        assert part in message


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_file_that_decompresses_to_far_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("recblr.io.compression._ALWAYS_ALLOWED", 1000)
    file = tmp_path / f"log{suffix}"
    file.write_bytes(COMPRESS[suffix](b"a" * 1_000_000))
    with pytest.raises(InputError, match="decompresses to more than 100 times its size"):
        read_text(file)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python reads zstd itself")
def test_without_a_package_for_zstd_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "log.csv.zst").write_bytes(zstd(CSV))
    with pytest.raises(InputError, match="pip install zstandard"):
        read_dataset(tmp_path / "log.csv.zst", k_core=0)


@given(parts=st.lists(st.binary(max_size=50) | st.integers(0, 300_000).map(bytes), min_size=1, max_size=3))
@pytest.mark.parametrize("suffix", [".bz2", ".xz", ".zst"])
def test_streams_come_back_byte_for_byte(suffix: str, parts: list[bytes]) -> None:
    # A comma at the start: the bytes of the data must not look compressed themselves.
    data = b"".join(COMPRESS[suffix](b"," + part) for part in parts)
    assert decompressed(Path("log"), data) == b"".join(b"," + part for part in parts)


@pytest.mark.parametrize("name", ["a.xlsx", "a.ods", "a.csv"])
def test_a_file_of_excel_is_named_as_such(tmp_path: Path, name: str) -> None:
    main = "content.xml" if name == "a.ods" else "[Content_Types].xml"
    (tmp_path / name).write_bytes(zipped({main: b"<x/>", "xl/workbook.xml": b"<x/>"}))
    with pytest.raises(InputError, match="Excel") as raised:
        read_dataset(tmp_path / name, k_core=0)
    assert "as a CSV file" in raised.value.remedy
