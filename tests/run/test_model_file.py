"""The model's file: what is saved is what is loaded, and nothing else passes for it."""

from __future__ import annotations

import json
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from recblr.config import MODELS
from recblr.errors import InputError
from recblr.nn import RecBLR, RecBLRConfig
from recblr.nn.model import build_model
from recblr.run.model_file import load_model, save_model, write_tensors

CONFIG = RecBLRConfig(d_model=8, num_layers=1)


def model() -> RecBLR:
    return RecBLR(11, CONFIG)


def header(**changes: Any) -> dict[str, Any]:
    config = {"d_model": 8, "num_layers": 1, "expand": 2, "d_conv": 4, "dropout": 0.2}
    return {"kind": "model", "config": config, "num_items": 11, **changes}


def one_sentence(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        load_model(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    assert "restore it from a copy, or train again into another --out" in message
    return message


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    saved = model()
    save_model(saved, tmp_path / "m.safetensors", fingerprint="ab", epoch=3)
    loaded, found = load_model(tmp_path / "m.safetensors")
    assert not loaded.training
    assert (loaded.config, loaded.num_items) == (CONFIG, 11)
    assert (found["fingerprint"], found["epoch"]) == ("ab", 3)
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    items = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded(items), saved.eval()(items))


@pytest.mark.parametrize("name", MODELS)
def test_the_header_names_the_model_which_is_built_again(tmp_path: Path, name: str) -> None:
    saved = build_model(11, MODELS[name](d_model=8, num_layers=1))
    save_model(saved, tmp_path / "m.safetensors")
    loaded, found = load_model(tmp_path / "m.safetensors")
    assert found["config"]["model"] == name
    assert (type(loaded), loaded.config) == (type(saved), saved.config)
    items, offsets = torch.tensor([1, 2, 3]), torch.tensor([0, 3])
    assert torch.equal(loaded(items, offsets=offsets), saved.eval()(items, offsets=offsets))


def test_a_file_that_names_no_model_holds_recblr(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, model().state_dict(), header())
    assert type(load_model(path)[0]) is RecBLR


def test_a_loaded_model_can_be_trained_on(tmp_path: Path) -> None:
    save_model(model(), tmp_path / "m.safetensors")
    loaded, _ = load_model(tmp_path / "m.safetensors")
    loaded.scores(loaded(torch.tensor([[1, 2]]))).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    save_model(model(), tmp_path / "m.safetensors")
    before = torch.get_rng_state()
    load_model(tmp_path / "m.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_model_is_the_same_bytes_and_a_replaced_file_leaves_no_draft(tmp_path: Path) -> None:
    saved = model()
    for name in ("a", "b", "b"):
        save_model(saved, tmp_path / name, epoch=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_others_may_read_the_file_as_they_may_read_any_new_file(tmp_path: Path) -> None:
    save_model(model(), tmp_path / "m.safetensors")
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("m.safetensors", "plain")]
    assert modes[0] == modes[1]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "there is no file" in one_sentence(tmp_path / "m.safetensors")


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.001, 0.01, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "m.safetensors"
    save_model(model(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert "is damaged or truncated" in one_sentence(path)


def test_a_file_that_lacks_its_last_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(model(), path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "is damaged or truncated" in one_sentence(path)


@pytest.mark.parametrize("size", [1, 8, 9, 100, 10_000])
def test_random_bytes_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.safetensors"
    for seed in range(20):
        path.write_bytes(random.Random(seed).randbytes(size))
        assert "is damaged or truncated" in one_sentence(path)


def test_a_damaged_header_is_refused_wherever_the_damage_is(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(model(), path)
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    for position in [*range(8), *range(8, length, 41)]:
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        one_sentence(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"recblr": "{"}, {"recblr": "[1]"}])
def test_another_programs_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    assert "was not written by recblr" in one_sentence(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, model().state_dict(), {"kind": "optimizer"})
    assert "holds a recblr optimizer, not a model" in one_sentence(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_items": -1},
        {"num_items": "eleven"},
        {"num_items": None},
        {"config": None},
        {"config": {"d_model": 0}},
        {"config": {"d_model": 8, "colour": "red"}},
        {"config": {"dropout": 2.0}},
        {"config": {"num_layers": 1, "model": "bert4rec"}},
        {"config": {"num_layers": 1, "model": ["sasrec"]}},
        {"config": {"num_layers": 1, "model": "sasrec", "expand": 2}},
    ],
    ids=json.dumps,
)
def test_a_header_that_describes_no_model_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, model().state_dict(), header(**changes))
    assert "does not describe a model of recblr" in one_sentence(path)


@pytest.mark.parametrize("name", ["config", "num_items"])
def test_a_header_without_an_entry_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.safetensors"
    values = header()
    del values[name]
    write_tensors(path, model().state_dict(), values)
    assert "does not describe a model of recblr" in one_sentence(path)


Tensors = dict[str, torch.Tensor]
EMBEDDING = "item_embedding.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors: tensors.pop("layer_norm.bias"), "it has no tensor layer_norm.bias"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "it has a tensor extra"),
        (
            lambda tensors: tensors.update({EMBEDDING: torch.zeros(12, 8)}),
            f"{EMBEDDING} has the shape (12, 8), not (11, 8)",
        ),
        (
            lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].half()}),
            f"{EMBEDDING} is float16, not float32",
        ),
    ],
    ids=["missing", "extra", "shape", "dtype"],
)
def test_tensors_of_another_model_are_named(
    tmp_path: Path, change: Callable[[Tensors], object], says: str
) -> None:
    path = tmp_path / "m.safetensors"
    tensors = dict(model().state_dict())
    change(tensors)
    write_tensors(path, tensors, header())
    assert says in one_sentence(path)


def test_a_header_that_claims_a_huge_catalogue_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, model().state_dict(), header(num_items=10**12))
    assert f"not ({10**12}, 8)" in one_sentence(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose a folder that exists"):
        save_model(model(), tmp_path / "nowhere" / "m.safetensors")
