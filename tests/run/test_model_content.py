"""Reading and writing model files without torch: the file is mapped, and everything in it is checked."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run import sealed
from safetensors.numpy import save_file

import recblr
from recblr.config.model import MODELS, RecBLRConfig
from recblr.errors import InputError
from recblr.nn.model import build_model
from recblr.run.model_content import read_for_serving, read_model_file, write_model_file
from recblr.run.model_file import load_model, save_model
from recblr.run.model_tensors import difference, expected_tensors

IDS = ["a", "b", "ß", "7", ""]
METRICS = {"masked": {"ndcg@10": 0.25}, "unmasked": {"ndcg@10": 1e-05}}
CONFIG = RecBLRConfig(d_model=4, num_layers=1, time="none")
OLD = Path(__file__).parent / "data/model-format-1.safetensors"


def write(path: Path, config: Any = CONFIG, *, repeat_bias: bool = False) -> Path:
    model = build_model(len(IDS), config)
    if repeat_bias:
        model.learn_repeat_bias(0.5)
    save_model(model, path, IDS, fingerprint="ab", epoch=3, metrics=METRICS)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small model file."""
    return write(tmp_path_factory.mktemp("whole") / "m.safetensors").read_bytes()


@pytest.fixture
def path(whole: bytes, tmp_path: Path) -> Path:
    """A model file to damage."""
    file = tmp_path / "m.safetensors"
    file.write_bytes(whole)
    return file


def one_sentence(path: Path) -> InputError:
    with pytest.raises(InputError) as raised:
        read_for_serving(path)
    assert "\n" not in str(raised.value)
    assert str(path) in raised.value.problem
    assert raised.value.remedy
    return raised.value


@pytest.mark.parametrize("repeat_bias", [False, True])
def test_what_a_file_holds_is_what_torch_has(tmp_path: Path, repeat_bias: bool) -> None:
    path = write(tmp_path / "m.safetensors", repeat_bias=repeat_bias)
    found, model = read_for_serving(path), load_model(path).model
    assert (found.config, found.item_ids, found.num_items, found.retired) == (CONFIG, IDS, 5, ())
    assert (found.fingerprint, found.epoch, found.metrics) == ("ab", 3, METRICS)
    assert (found.version, found.repeat_bias) == (recblr.__version__, 0.5 if repeat_bias else None)
    assert found.digest == sealed.read(path)[1]["digest"]
    assert found.tensors.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert np.array_equal(found.tensors[name], tensor.numpy()), name


def test_the_arrays_are_views_of_the_mapped_file_that_cannot_be_written(path: Path) -> None:
    table = read_for_serving(path).table
    assert type(table) is np.ndarray
    assert not table.flags.owndata
    assert not table.flags.writeable
    before = float(table[0, 0])
    with path.open("r+b") as file:  # the same pages: a change in place is seen
        place = path.read_bytes().index(table.tobytes())
        file.seek(place)
        file.write(np.float32(before + 1).tobytes())
    assert table[0, 0] == np.float32(before + 1)


def test_a_replaced_file_leaves_the_arrays_as_they_were(path: Path) -> None:
    table = read_for_serving(path).table
    before = table.copy()
    write(path)
    assert np.array_equal(table, before)
    assert not np.array_equal(read_for_serving(path).table, before)


READ_WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(["torch", "polars", "rich", "typer", "matplotlib"]))
from pathlib import Path
import recblr.serving
from recblr.run import read_for_serving, with_items, without_items, write_model_file
from recblr.run.model_tensors import expected_tensors
found = read_for_serving(Path(sys.argv[1]))
assert found.tensors.keys() == expected_tensors(found.config, found.num_items).keys()
without_items(with_items(found, ["x"], like=[["a"]]), ["a"])
print(write_model_file(Path(sys.argv[2]), found), sorted(m for m in sys.modules if m.startswith("recblr.")))
"""


def test_a_file_is_read_and_written_where_neither_torch_nor_polars_can_be_imported(
    path: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", READ_WITHOUT_TORCH, str(path), str(tmp_path / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == read_for_serving(path).digest
    assert "recblr.training" not in done.stdout
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


# --- the tensors of a configuration

OPTIONS = [
    {
        "history_average": average,
        "time": time,
        "d_conv": d_conv,
        "expand": expand,
        "num_layers": layers,
        **({"padding_leak": True, "max_length": 5} if leak else {}),
    }
    for average, time, d_conv, expand, layers, leak in product(
        (True, False), ("none", "past", "request", None), (1, 4), (0.6, 2), (1, 3), (False, True)
    )
]


@pytest.mark.parametrize("repeat_bias", [False, True])
def test_the_tensors_of_every_configuration_are_those_of_its_model(repeat_bias: bool) -> None:
    for options in OPTIONS:
        config = RecBLRConfig(d_model=5, **options)
        with torch.device("meta"):
            model = build_model(7, config)
            if repeat_bias:
                model.learn_repeat_bias()
        expected = expected_tensors(config, 7, repeat_bias=repeat_bias)
        assert difference(model.state_dict(), expected) is None, options
        assert difference(expected, model.state_dict()) is None, options


# --- files that are refused


def test_a_file_with_any_byte_flipped_is_refused(whole: bytes, path: Path) -> None:
    """Every third byte; and every space, because JSON takes other blanks for the same."""
    header = 8 + int.from_bytes(whole[:8], "little")
    assert whole[header - 1 : header] == b" "
    for position, byte in enumerate(whole):
        blank = byte == ord(" ") and position < header
        if position % 3 == 0 or blank:
            changed = bytearray(whole)
            changed[position] ^= ord(" ") ^ ord("\n") if blank else 1 << position % 8
            path.write_bytes(changed)
            one_sentence(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_file_with_any_byte_replaced_is_refused(whole: bytes, path: Path, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[position]))
    path.write_bytes(changed)
    assert "from a copy" in one_sentence(path).remedy


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(whole: bytes, path: Path, share: float) -> None:
    path.write_bytes(whole[: int(share * len(whole))])
    assert f"{path} is damaged or truncated (" in one_sentence(path).problem


def test_a_longer_file_is_refused(whole: bytes, path: Path) -> None:
    path.write_bytes(whole + b" ")
    assert "1 bytes at its end belong to no array" in one_sentence(path).problem


def rewritten(path: Path, old: bytes, new: bytes) -> None:
    """Replace a part of the header, and adapt the header's length."""
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    assert old in whole[8:start]
    text = whole[8:start].replace(old, new, 1)
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[start:])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape":[5,4]', b'"shape":[4,5]'),
        (b'"shape":[5,4]', b'"shape":[-5,-4]'),
        (b'"shape":[5,4]', b'"shape":[5.0,4]'),
        (b'"shape":[5,4]', b'"shape":[5,true,4]'),
        (b'"shape":[5,4]', b'"shape":[20]'),
        (b'"shape":[5,4]', b'"shape":null'),
        (b'"dtype":"F32"', b'"dtype":"BF16"'),
        (b'"dtype":"F32"', b'"dtype":["F32"]'),
        (b'"data_offsets":[0,', b'"data_offsets":[4,'),
        (b'"data_offsets":[0,', b'"data_offsets":[-4,'),
        (b'"data_offsets":[0,', b'"data_offsets":[0,0,'),
        (b'"data_offsets":[0,', b'"data_offsets":[0,9'),
        (b'"data_offsets":[0,', b'"data_offsets":["0",'),
        (b'"item_ids"', b'"item_idz"'),
        (b'{"__metadata__":', b'[{"__metadata__":'),
        (b'{"__metadata__":', b'{ "__metadata__":'),
    ],
)
def test_a_header_that_lies_about_the_arrays_is_refused(path: Path, old: bytes, new: bytes) -> None:
    rewritten(path, old, new)
    one_sentence(path)


def test_foreign_files_are_refused(path: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, path)
    assert "was not written by recblr" in one_sentence(path).problem
    assert "`recblr export RUN model.safetensors`" in one_sentence(path).remedy
    for content in (b"not a model", b"not a model" * 100, b"PK\x03\x04 a file of PyTorch"):
        path.write_bytes(content)
        error = one_sentence(path)
        assert f"{path} is no model file: it does not begin as a safetensors file does" in error.problem
        assert "`recblr export RUN model.safetensors`" in error.remedy
    path.write_bytes(b"")
    assert "is damaged or truncated" in one_sentence(path).problem


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path, path: Path) -> None:
    assert "there is no file" in one_sentence(tmp_path / "nowhere").problem
    (tmp_path / "run").mkdir()
    assert "from a copy" in one_sentence(tmp_path / "run").remedy
    path.rename(tmp_path / "run/model.safetensors")
    error = one_sentence(tmp_path / "run")
    assert f"there is no file {tmp_path / 'run'}, but a folder of this name" in error.problem
    assert read_for_serving(Path(error.remedy.removeprefix("give "))).item_ids == IDS


def test_a_file_of_a_later_recblr_is_refused(path: Path) -> None:
    sealed.rewrite(path, lambda _, found: found.update(format=4))
    error = one_sentence(path)
    assert "has format 4" in error.problem
    assert "install a later recblr" in error.remedy


def test_an_option_of_a_later_recblr_is_named(path: Path) -> None:
    sealed.rewrite(path, lambda _, found: found["config"].update(colour="red"))
    assert "has no option colour" in one_sentence(path).problem


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_a_baseline_is_refused_for_serving_only(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "m.safetensors", MODELS[name](d_model=4, num_layers=1))
    assert read_model_file(path).item_ids == IDS
    error = one_sentence(path)
    assert f"holds the baseline {name}, which cannot be served event by event" in error.problem
    assert "`recblr train DATA --out RUN`, then `recblr export RUN model.safetensors`" in error.remedy


def test_a_file_of_format_1_is_refused_for_serving_only() -> None:
    assert read_model_file(OLD).item_ids is None
    error = one_sentence(OLD)
    assert "old format 1, which has no item ids" in error.problem
    assert "recblr export RUN model.safetensors" in error.remedy


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(path: Path, value: float) -> None:
    sealed.rewrite(path, lambda tensors, _: tensors["layer_norm.bias"].__setitem__(1, value))
    assert "layer_norm.bias holds infinite values or NaN" in one_sentence(path).problem
    found = read_for_serving(write(path))
    changed = {**found.tensors, "layer_norm.bias": np.full(4, value, np.float32)}
    with pytest.raises(InputError, match=r"layer_norm.bias holds infinite values or NaN"):
        write_model_file(path, replace(found, tensors=changed))
    assert read_for_serving(path).digest == found.digest


# --- writing


def test_a_written_file_is_read_back(path: Path, tmp_path: Path) -> None:
    found = read_for_serving(path)
    digest = write_model_file(tmp_path / "copy", found)
    assert digest == found.digest == read_for_serving(tmp_path / "copy").digest
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "m.safetensors"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"item_ids": IDS[1:]}, "item_ids holds 4 different ids for a model of 5 items"),
        ({"item_ids": [*IDS[1:], "\ud800"]}, "half of a surrogate pair"),
        ({"item_ids": None}, "item_ids holds 0 different ids"),
        ({"retired": (5,)}, "retired must hold ascending numbers of items"),
        ({"retired": (-1,)}, "retired must hold ascending numbers of items"),
        ({"retired": (2, 1)}, "retired must hold ascending numbers of items"),
        ({"retired": (0, 1, 2, 3, 4)}, "fewer than all"),
        ({"config": replace(CONFIG, d_conv=3)}, "conv1d.weight has the shape (8, 4), not (8, 3)"),
    ],
)
def test_a_content_that_could_not_be_read_is_not_written(
    path: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError) as raised:
        write_model_file(tmp_path / "copy", replace(read_model_file(path), **changes))
    assert says in raised.value.problem
    assert not (tmp_path / "copy").exists()


def test_a_model_in_16_bits_is_not_saved(tmp_path: Path) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.raises(InputError, match=r"item_embedding.weight is (b?)float16, not float32"):
            save_model(build_model(5, CONFIG).to(dtype), tmp_path / "m", IDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "retired", [np.array([1, 1]), np.array([5]), np.array([-1]), np.array([1], np.int32), np.arange(5)]
)
def test_a_file_with_wrong_retired_items_is_refused(path: Path, retired: np.ndarray) -> None:
    def retire(tensors: sealed.Tensors, header: sealed.Header) -> None:
        tensors["retired_items"] = torch.from_numpy(retired)
        header["format"] = 3

    sealed.rewrite(path, retire)
    assert "retired items" in one_sentence(path).problem


def test_retired_items_in_a_file_of_a_format_without_them_are_refused(path: Path) -> None:
    sealed.rewrite(path, lambda tensors, _: tensors.update(retired_items=torch.tensor([1])))
    assert "it has a tensor retired_items" in one_sentence(path).problem


def test_retired_items_are_kept_and_only_they_raise_the_format(path: Path, tmp_path: Path) -> None:
    assert sealed.read(path)[1]["format"] == 2
    write_model_file(tmp_path / "copy", replace(read_model_file(path), retired=(1, 3)))
    assert sealed.read(tmp_path / "copy")[1]["format"] == 3
    assert read_for_serving(tmp_path / "copy").retired == (1, 3)
    saved = load_model(tmp_path / "copy")
    assert saved.retired == (1, 3)
    save_model(saved.model, tmp_path / "again", IDS, retired=saved.retired)
    assert load_model(tmp_path / "again").retired == (1, 3)
