"""The model file: a saved model is loaded unchanged, and a damaged or foreign file is refused."""

from __future__ import annotations

import json
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run import sealed
from safetensors.torch import load_file, save_file

import recblr
from recblr.config import MODELS
from recblr.config.option import RENAMED
from recblr.errors import InputError
from recblr.nn import RecBLR, RecBLRConfig
from recblr.nn.model import build_model
from recblr.run import model_content, model_file
from recblr.run.model_content import FOREIGN, FORMAT, ITEM_IDS
from recblr.run.model_file import load_model, save_model, write_tensors

CONFIG = RecBLRConfig(d_model=8, num_layers=1)
IDS = ["a", "b", "ß", 'of "this"', "", " ", "\n", "\0", "日本", "1", "𝄞"]
METRICS = {"masked": {"ndcg@10": 0.25}, "unmasked": {"ndcg@10": 1e-05}}
OLD = Path(__file__).parent / "data/model-format-1.safetensors"


def model() -> RecBLR:
    return RecBLR(11, CONFIG)


def header(**changes: Any) -> dict[str, Any]:
    """A header of format 1."""
    config = {"d_model": 8, "num_layers": 1, "expand": 2, "d_conv": 4, "dropout": 0.2}
    return {"kind": "model", "config": config, "num_items": 11, **changes}


def one_sentence(
    path: Path, remedy: str = "restore it from a copy, or train again into another --out"
) -> str:
    with pytest.raises(InputError) as raised:
        load_model(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    assert raised.value.remedy == remedy
    return message


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model file's bytes."""
    path = tmp_path_factory.mktemp("whole") / "m.safetensors"
    save_model(model(), path, IDS, fingerprint="ab", epoch=3, metrics=METRICS)
    return path.read_bytes()


@pytest.fixture
def path(whole: bytes, tmp_path: Path) -> Path:
    """A model file to damage."""
    file = tmp_path / "m.safetensors"
    file.write_bytes(whole)
    return file


def test_a_saved_model_is_loaded_unchanged(tmp_path: Path) -> None:
    ours = model()
    save_model(ours, tmp_path / "m.safetensors", IDS, fingerprint="ab", epoch=3, metrics=METRICS)
    found = load_model(tmp_path / "m.safetensors")
    loaded = found.model
    assert not loaded.training
    assert (loaded.config, loaded.num_items) == (CONFIG, 11)
    assert (found.fingerprint, found.epoch, found.metrics) == ("ab", 3, METRICS)
    assert (found.item_ids, found.version) == (IDS, recblr.__version__)
    assert loaded.state_dict().keys() == ours.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    items = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded(items), ours.eval()(items))


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_built_again_from_its_name_in_the_header(tmp_path: Path, name: str) -> None:
    saved = build_model(11, MODELS[name](d_model=8, num_layers=1))
    save_model(saved, tmp_path / "m.safetensors", IDS)
    loaded = load_model(tmp_path / "m.safetensors").model
    assert sealed.read(tmp_path / "m.safetensors")[1]["config"]["model"] == name
    assert (type(loaded), loaded.config) == (type(saved), saved.config)
    items, offsets = torch.tensor([1, 2, 3]), torch.tensor([0, 3])
    assert torch.equal(loaded(items, offsets=offsets), saved.eval()(items, offsets=offsets))


def test_the_file_can_be_read_without_recblr(path: Path) -> None:
    tensors = load_file(path)
    assert json.loads(bytes(tensors.pop(ITEM_IDS).tolist())) == IDS
    assert tensors.keys() == model().state_dict().keys()


@given(
    item_ids=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=9, unique=True)
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_can_be_an_item_id(tmp_path: Path, item_ids: list[str]) -> None:
    save_model(RecBLR(len(item_ids), CONFIG), tmp_path / "m.safetensors", item_ids)
    assert load_model(tmp_path / "m.safetensors").item_ids == item_ids


@pytest.mark.parametrize("ids", [IDS[1:], [*IDS[1:], "b"], [*IDS, "c"], [*IDS[1:], 7]])
def test_ids_that_do_not_name_the_items_are_refused(tmp_path: Path, ids: list[str]) -> None:
    with pytest.raises(InputError, match="item_ids holds"):
        save_model(model(), tmp_path / "m.safetensors", ids)
    assert not list(tmp_path.iterdir())


def test_a_loaded_model_can_be_trained_further(path: Path) -> None:
    loaded = load_model(path).model
    loaded.scores(loaded(torch.tensor([[1, 2]]))).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_loading_draws_no_random_numbers(path: Path) -> None:
    before = torch.get_rng_state()
    load_model(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_model_is_the_same_bytes_and_a_replaced_file_leaves_no_draft(tmp_path: Path) -> None:
    saved = model()
    for name in ("a", "b", "b"):
        save_model(saved, tmp_path / name, IDS, epoch=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    save_model(model(), tmp_path / "m.safetensors", IDS)
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("m.safetensors", "plain")]
    assert modes[0] == modes[1]


# --- files of format 1


def test_a_file_of_format_1_is_read(tmp_path: Path) -> None:
    saved = load_model(OLD)
    assert saved.model.config == RecBLRConfig(d_model=4, num_layers=1, dropout=0.2, time="none")
    assert (saved.fingerprint, saved.epoch) == ("ab" * 32, 3)
    assert (saved.item_ids, saved.metrics, saved.version) == (None, None, None)
    with torch.no_grad():
        hidden = saved.model(torch.tensor([[0, 2]]))[0, -1]
        scores = saved.model.scores(hidden, torch.tensor([[True, False, True, False, False]]))
    # The scores of the recblr that wrote the file.
    expected = torch.tensor([[-0.703398168, 0.880759597, 0.217931926, 1.384856701, -1.265455961]])
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_file_without_the_name_of_a_model_holds_recblr(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, model().state_dict(), header())
    assert type(load_model(path).model) is RecBLR


# --- renamed and unknown options


def test_an_old_name_of_an_option_is_read_as_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(OLD, tmp_path))

    def use_the_old_name(_: sealed.Tensors, found: sealed.Header) -> None:
        found["config"]["width_of_conv"] = found["config"].pop("d_conv") - 1

    sealed.rewrite(path, use_the_old_name)
    assert "this version of recblr has no option width_of_conv" in one_sentence(path, READ_WITH_ITS_WRITER)
    monkeypatch.setitem(RENAMED, "width_of_conv", "d_conv")
    message = one_sentence(path)  # read as d_conv = 3, which does not match the weights
    assert "layers.0.recurrent.conv1d.weight has the shape (8, 4), not (8, 3)" in message
    sealed.rewrite(path, lambda _, found: found["config"].update(width_of_conv=4))
    assert load_model(path).model.config == load_model(OLD).model.config


@pytest.mark.parametrize("name", [field.name for field in fields(RecBLRConfig)])
def test_any_option_can_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(RENAMED, "as_it_was", name)
    for file in (OLD, tmp_path / "new"):
        if file != OLD:
            save_model(load_model(OLD).model, file, ["a", "b", "c", "d", "e"])
        path = Path(shutil.copy(file, tmp_path / "renamed"))
        sealed.rewrite(
            path, lambda _, found: found["config"].update(as_it_was=found["config"].pop(name, "none"))
        )
        assert load_model(path).model.config == load_model(OLD).model.config


def test_a_file_with_the_old_and_the_new_name_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "width_of_conv", "d_conv")
    sealed.rewrite(path, lambda _, found: found["config"].update(width_of_conv=4))
    assert "this version of recblr has no option width_of_conv" in one_sentence(path, READ_WITH_ITS_WRITER)


def test_missing_options_have_their_defaults(path: Path) -> None:
    sealed.rewrite(path, lambda _, found: [found["config"].pop(name) for name in ("d_conv", "expand")])
    assert load_model(path).model.config == CONFIG
    sealed.rewrite(path, lambda _, found: found["config"].pop("num_layers"))
    assert "it has no tensor layers.1." in one_sentence(path)  # the default is two layers


READ_WITH_ITS_WRITER = "read it with the version of recblr that wrote it, or train again into another --out"


def test_an_unknown_option_is_named_and_the_recblr_that_wrote_it_reads_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_a_later_option(_: sealed.Tensors, found: sealed.Header) -> None:
        found["config"]["colour"] = "red"
        found["version"] = "7.1"

    sealed.rewrite(path, add_a_later_option)
    assert one_sentence(path, READ_WITH_ITS_WRITER).startswith(
        f"{path}, which recblr 7.1 wrote: this version of recblr has no option colour for the model recblr; "
    )

    @dataclass(frozen=True, kw_only=True)
    class Later(RecBLRConfig):
        colour: str = "blue"

    monkeypatch.setitem(MODELS, "recblr", Later)
    monkeypatch.setattr(model_file, "build_model", lambda items, config: RecBLR(items, config))
    assert asdict(load_model(path).model.config) == {**asdict(CONFIG), "colour": "red"}


# --- refused files, and remedies that work


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    assert "there is no file" in one_sentence(tmp_path / "m.safetensors")


def test_a_later_format_is_refused_and_a_later_recblr_reads_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed.rewrite(path, lambda _, found: found.update(format=FORMAT + 1))
    remedy = "install a later recblr, or restore the file from a copy"
    says = f"{path} has format 4, but this recblr {recblr.__version__} reads only formats up to 3; {remedy}"
    assert one_sentence(path, remedy) == says
    monkeypatch.setattr(model_content, "FORMAT", FORMAT + 1)
    assert load_model(path).item_ids == IDS


@pytest.mark.parametrize("number", [0, -1, 1, True, 2.0, "2", None, []])
def test_a_format_that_never_existed_is_refused(path: Path, number: Any) -> None:
    sealed.rewrite(path, lambda _, found: found.update(format=number))
    assert f"is damaged: its format is {number!r}" in one_sentence(path)


def test_a_file_without_its_format_is_not_taken_for_an_old_one(path: Path) -> None:
    for lost in (["format"], ["format", "digest"]):
        sealed.rewrite(path, lambda _, found, lost=lost: [found.pop(name, None) for name in lost])
        assert "is damaged: its format is None" in one_sentence(path)


def test_missing_item_ids_are_refused_and_a_copy_is_read(path: Path, tmp_path: Path) -> None:
    copy = shutil.copy(path, tmp_path / "copy")
    sealed.rewrite(path, lambda tensors, _: tensors.pop(ITEM_IDS))
    assert "lacks the item ids that format 2 requires" in one_sentence(path)
    shutil.copy(copy, path)
    assert load_model(path).item_ids == IDS


def as_ids(text: bytes) -> torch.Tensor:
    return torch.tensor(list(text), dtype=torch.uint8)


@pytest.mark.parametrize(
    "ids",
    [
        torch.zeros(0, dtype=torch.uint8),
        as_ids(json.dumps(IDS[1:]).encode()),
        as_ids(json.dumps([*IDS[1:], "b"]).encode()),
        as_ids(json.dumps([*IDS[1:], 3]).encode()),
        as_ids(json.dumps([*IDS[1:], ["a"]]).encode()),
        as_ids(json.dumps(dict.fromkeys(IDS, "x")).encode()),
        as_ids(b"11"),
        as_ids(b"\xff" * 20),
        as_ids(b"[" * 200_000),
        torch.zeros(3),
    ],
    ids=[
        "none",
        "too few",
        "twice",
        "a number",
        "a list",
        "a table",
        "not a list",
        "not UTF-8",
        "deeply nested",
        "floats",
    ],
)
def test_wrong_item_ids_are_refused(path: Path, ids: torch.Tensor) -> None:
    sealed.rewrite(path, lambda tensors, _: tensors.update({ITEM_IDS: ids}))
    assert "are not texts that differ, one for each item" in one_sentence(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.floats(0, 1, exclude_max=True) | st.floats(0, 0.5), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(whole: bytes, path: Path, place: float, bit: int) -> None:
    flipped = bytearray(whole)
    flipped[int(place * len(whole))] ^= 1 << bit
    path.write_bytes(flipped)
    with pytest.raises(InputError) as raised:
        load_model(path)
    assert str(path) in str(raised.value)
    assert "from a copy" in str(raised.value)


def test_a_flipped_bit_in_each_tensor_is_refused_and_a_copy_is_read(whole: bytes, path: Path) -> None:
    length = 8 + int.from_bytes(whole[:8], "little")
    entries = json.loads(whole[8:length])
    del entries["__metadata__"]
    assert ITEM_IDS in entries
    for name, entry in entries.items():
        first, last = entry["data_offsets"]
        for position in (first, (first + last) // 2, last - 1):
            flipped = bytearray(whole)
            flipped[length + position] ^= 1
            path.write_bytes(flipped)
            assert "is damaged" in one_sentence(path), name
    path.write_bytes(whole)
    load_model(path)


def test_a_flipped_bit_in_any_part_of_the_header_is_refused(whole: bytes, path: Path) -> None:
    length = 8 + int.from_bytes(whole[:8], "little")
    for position in (*range(9), *range(9, length, 3)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        with pytest.raises(InputError) as raised:
            load_model(path)
        assert "from a copy" in raised.value.remedy, raised.value


def test_a_number_in_another_notation_is_refused(path: Path, whole: bytes) -> None:
    path.write_bytes(whole.replace(b"1e-05", b"1E-05"))
    assert "is damaged: its recblr entry has changed since it was written" in one_sentence(path)


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.001, 0.01, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(path: Path, part: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert "is damaged or truncated" in one_sentence(path)


def test_a_file_without_its_last_byte_is_refused_and_a_copy_is_read(path: Path, tmp_path: Path) -> None:
    copy = shutil.copy(path, tmp_path / "copy")
    path.write_bytes(path.read_bytes()[:-1])
    assert "is damaged or truncated" in one_sentence(path)
    shutil.copy(copy, path)
    load_model(path)


@pytest.mark.parametrize("size", [1, 8, 9, 100, 10_000])
def test_random_bytes_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.safetensors"
    for seed in range(20):
        whole = random.Random(seed).randbytes(size)
        path.write_bytes(whole)
        if size > 8 and whole[8:9] != b"{":
            assert "is no model file" in one_sentence(path, FOREIGN)
        else:
            assert "is damaged or truncated" in one_sentence(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"recblr": "{"}, {"recblr": "[1]"}])
def test_another_programs_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    assert "was not written by recblr" in one_sentence(path, FOREIGN)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, model().state_dict(), {"kind": "optimizer"})
    assert "holds a recblr optimizer, not a model" in one_sentence(path, FOREIGN)


WRONG_MODEL: list[dict[str, Any]] = [
    {"config": None},
    {"config": {"d_model": 0}},
    {"config": {"dropout": 2.0}},
    {"config": {"num_layers": 1, "model": "bert4rec"}},
    {"config": {"num_layers": 1, "model": ["sasrec"]}},
]
WRONG_ITEMS: list[dict[str, Any]] = [{"num_items": -1}, {"num_items": "eleven"}, {"num_items": None}]
WRONG_FACTS: list[dict[str, Any]] = [
    {"fingerprint": 7},
    {"epoch": "three"},
    {"metrics": [0.5]},
    {"metrics": {"masked": 0.5}},
    {"metrics": {"masked": {"ndcg@10": "good"}}},
    {"version": 1},
]


@pytest.mark.parametrize("changes", WRONG_MODEL + WRONG_ITEMS, ids=json.dumps)
def test_an_old_header_that_does_not_describe_a_model_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, model().state_dict(), header(**changes))
    assert "does not describe a model of recblr" in one_sentence(path)


@pytest.mark.parametrize("changes", WRONG_MODEL + WRONG_FACTS, ids=json.dumps)
def test_a_header_that_does_not_describe_a_model_is_refused(path: Path, changes: dict[str, Any]) -> None:
    sealed.rewrite(path, lambda _, found: found.update(changes))
    assert "does not describe a model of recblr" in one_sentence(path)


def test_the_error_names_an_option_of_another_model(path: Path) -> None:
    sealed.rewrite(path, lambda _, found: found["config"].update(model="sasrec"))
    assert "has no option beta_epsilon for the model sasrec" in one_sentence(path, READ_WITH_ITS_WRITER)


@pytest.mark.parametrize("name", ["config", "num_items"])
def test_a_header_without_an_entry_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.safetensors"
    values = header()
    del values[name]
    write_tensors(path, model().state_dict(), values)
    assert "does not describe a model of recblr" in one_sentence(path)


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
        (
            lambda tensors: tensors["layer_norm.bias"].__setitem__(0, torch.nan),
            "layer_norm.bias holds infinite values or NaN",
        ),
    ],
    ids=["missing", "extra", "shape", "dtype", "not a number"],
)
def test_the_error_names_a_tensor_of_another_model(
    path: Path, change: Callable[[sealed.Tensors], object], says: str
) -> None:
    sealed.rewrite(path, lambda tensors, _: change(tensors))
    assert says in one_sentence(path)


def test_a_false_huge_catalogue_in_an_old_header_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, model().state_dict(), header(num_items=10**12))
    assert f"not ({10**12}, 8)" in one_sentence(path)


def test_saving_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose a folder that exists"):
        save_model(model(), tmp_path / "nowhere" / "m.safetensors", IDS)
