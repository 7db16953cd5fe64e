"""Foreign checkpoint files that are not checkpoints, or do not describe a RecBLR."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile.damaging import POSITIONS, damage, sentence
from hostile.rows import in_time, little_memory
from hypothesis import given, settings
from hypothesis import strategies as st
from integrations.recbole_checkpoints import released_model, save, with_pickle

from recblr.integrations.released import load_released

ITEMS = "item_embedding.weight"


def holding(**changes: Any) -> Callable[[Path], object]:
    """A state dict with other tensors."""
    return lambda path: save(path, released_model(), state_dict={**released_model().state_dict(), **changes})


def configured(**settings: Any) -> Callable[[Path], object]:
    """A checkpoint with other settings."""
    return lambda path: save(
        path, released_model(), {"MAX_ITEM_LIST_LENGTH": 11, "dropout_prob": 0.1} | settings
    )


def bomb(path: Path) -> None:
    """A zip file that decompresses to a thousand times its size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (64 << 20))
        archive.writestr("archive/version", b"3\n")


# Pickles of protocol 2: one opens brackets and never closes them, and one announces a text of 2^31 bytes.
OPEN, LONG = b"\x80\x02" + b"(" * 100_000, b"\x80\x02X\xff\xff\xff\x7fabc."

CASES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a pipe": (os.mkfifo, ("cannot read", "not a file")),
    "a device": (lambda path: path.symlink_to("/dev/zero"), ("cannot read", "not a file")),
    "a link to itself": (lambda path: path.symlink_to(path), ("cannot read", "symbolic links")),
    "a link to nowhere": (lambda path: path.symlink_to("none"), ("cannot read", "No such file")),
    "a folder": (Path.mkdir, ("cannot read", "directory")),
    "an empty file": (Path.touch, ("is not a file of torch.save",)),
    "an empty zip": (lambda path: zipfile.ZipFile(path, "w").close(), ("is not a file of torch.save",)),
    "a zip of something else": (lambda path: path.write_bytes(b"PK\3\4" + b"\0" * 100), ("is damaged",)),
    "a zip bomb": (bomb, ("is damaged",)),
    "brackets that are never closed": (lambda path: with_pickle(path, OPEN), ("is damaged",)),
    "a text that is never complete": (lambda path: with_pickle(path, LONG), ("is damaged",)),
    "items that are nan": (
        holding(**{ITEMS: torch.full((17, 8), torch.nan)}),
        (ITEMS, "infinite values or NaN"),
    ),
    "items that are infinite": (
        holding(**{ITEMS: torch.full((17, 8), torch.inf)}),
        (ITEMS, "infinite values or NaN"),
    ),
    "items of whole numbers": (holding(**{ITEMS: torch.ones(17, 8, dtype=torch.int64)}), (ITEMS, "int64")),
    "items of width 0": (holding(**{ITEMS: torch.zeros(17, 0)}), (ITEMS, "(17, 0)")),
    "items in four axes": (holding(**{ITEMS: torch.zeros(1, 1, 17, 8)}), (ITEMS, "(1, 1, 17, 8)")),
    "the padding alone": (holding(**{ITEMS: torch.zeros(1, 8)}), (ITEMS, "(1, 8)")),
    "a layer number out of range": (
        holding(**{"recurrent_layers.99.x": torch.zeros(1)}),
        ("does not hold the authors'",),
    ),
    "a length below 0": (configured(MAX_ITEM_LIST_LENGTH=-1), ("max_length must be at least 1",)),
    "a length of 10^30": (configured(MAX_ITEM_LIST_LENGTH=10**30), ("max_length must be at most",)),
    "a length that is a boolean": (configured(MAX_ITEM_LIST_LENGTH=True), ("does not say how long",)),
    "a length in a fraction": (configured(MAX_ITEM_LIST_LENGTH=11.0), ("does not say how long",)),
    "a length in words": (configured(MAX_ITEM_LIST_LENGTH="11"), ("does not say how long",)),
    "dropout in words": (configured(dropout_prob="little"), ("does not describe a RecBLR",)),
    "dropout of nan": (configured(dropout_prob=float("nan")), ("dropout must lie in [0, 1)",)),
    "dropout in a list": (configured(dropout_prob=[0.1]), ("does not describe a RecBLR",)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_checkpoint_gives_one_sentence(name: str, tmp_path: Path) -> None:
    make, says = CASES[name]
    path = tmp_path / "released.pth"
    make(path)
    with in_time(), little_memory():
        complaint = sentence(lambda: load_released(path))
    assert complaint is not None
    assert "released.pth" in complaint
    assert "\n" not in complaint
    for part in says:
        assert part in complaint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("released") / "whole.pth", released_model())


@settings(max_examples=60)
@given(position=POSITIONS, bits=st.integers(0, 255))
def test_a_damaged_checkpoint_is_read_or_gives_one_sentence(whole: Path, position: float, bits: int) -> None:
    damaged = whole.with_name("damaged.pth")
    damaged.write_bytes(damage(whole.read_bytes(), position, bits))
    with in_time():
        complaint = sentence(lambda: load_released(damaged))
    assert complaint is None or ("damaged.pth" in complaint and "\n" not in complaint)
