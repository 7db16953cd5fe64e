"""The examples and the tables of docs/model-file.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.command import SMALL, at, succeeds
from training.tiny_runs import one_thread, tiny_dataset

from recblr.config.model import RecBLRConfig
from recblr.data import write_inter
from recblr.run import Run, load_model
from recblr.run.model_tensors import expected_tensors

PAGE = (Path(__file__).parents[2] / "docs/model-file.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the run that the examples use; they run in this folder."""
    folder = tmp_path_factory.mktemp("model file")
    write_inter(tiny_dataset(), folder / "shop.inter")
    with at(folder), one_thread():
        succeeds("train", "shop.inter", "--out", "run", "--epochs", "1", *SMALL)
        yield folder


def test_the_header(shop: Path) -> None:
    # [header]
    import json

    from safetensors import safe_open

    with safe_open("run/model.safetensors", framework="numpy") as file:
        header = json.loads(file.metadata()["recblr"])
        item_ids = json.loads(file.get_tensor("item_ids").tobytes())
    # [/header]
    assert item_ids == Run(Path("run")).dataset().item_ids
    keys = {"kind", "format", "version", "config", "num_items", "fingerprint", "epoch", "metrics", "digest"}
    assert set(header) == keys
    assert (header["kind"], header["format"]) == ("model", 2)
    for key in keys:
        assert f"\n| `{key}` |" in PAGE


def test_items(shop: Path) -> None:
    # [items]
    from pathlib import Path

    from recblr.run import read_for_serving, with_items, without_items, write_model_file

    saved = read_for_serving(Path("run/model.safetensors"))  # config, item_ids, tensors, …
    saved = with_items(saved, ["s01e99"], like=[["s01e12", "s01e13"]])
    saved = without_items(saved, ["s02e01"])
    write_model_file(Path("shop.safetensors"), saved)
    # [/items]
    found = load_model(Path("shop.safetensors"))
    assert found.item_ids == [*Run(Path("run")).dataset().item_ids, "s01e99"]
    assert [found.item_ids[item] for item in found.retired] == ["s02e01"]


@pytest.mark.parametrize("time", ["none", "past", "request"])
@pytest.mark.parametrize("average", [True, False])
def test_the_table_names_every_tensor_with_its_shape(time: str, average: bool) -> None:
    config = RecBLRConfig(d_model=6, expand=1.5, d_conv=3, num_layers=2, time=time, history_average=average)
    sizes = {"V": 7, "D": 6, "H": 9, "K": 3, "F": 24, "48": 48, "1": 1}

    def shape(text: str) -> tuple[int, ...]:
        axes = [] if text == "(no axes)" else text.split(", ")
        return tuple(int(axis[:-2] or 1) * sizes[axis[-1]] if " " in axis else sizes[axis] for axis in axes)

    listed = {}
    row = re.compile(r"^\| (`[^|]*`) \| ([^|]*) \| (?:every|a model)", re.MULTILINE)
    for names, shapes in row.findall(PAGE):
        cells = [shape(cell) for cell in shapes.replace(", int64", "").split(" and ")]
        for number, name in enumerate(re.findall(r"`([^`]+)`", names)):
            for layer in "01" if ".N." in name else " ":
                listed[name.replace(".N.", f".{layer}.")] = cells[number % len(cells)]
    expected = {name: spec.shape for name, spec in expected_tensors(config, 7, repeat_bias=True).items()}
    assert {name: listed.get(name) for name in expected} == expected
    if time == "request" and average:
        assert listed.keys() == expected.keys()
