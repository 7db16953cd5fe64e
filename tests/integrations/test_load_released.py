"""The authors' checkpoints: the loaded model gives their scores, and no code in the file runs."""

from __future__ import annotations

import builtins
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from integrations.recbole_checkpoints import LENGTH, N_ITEMS, WIDTH, released_model, save, with_pickle
from safetensors.torch import save_file

import recblr
from recblr.errors import InputError
from recblr.integrations.inert_pickle import Inert, load_untrusted
from recblr.nn import RecBLR, RecBLRConfig
from recblr.run.model_file import load_model, save_model
from recblr.serving import recommend


def padded(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    items = torch.randint(1, N_ITEMS, (len(lengths), LENGTH), generator=torch.Generator().manual_seed(1))
    return items.masked_fill(torch.arange(LENGTH) >= torch.tensor(lengths)[:, None], 0), torch.tensor(lengths)


def our_scores(model: RecBLR, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    hidden = model(items - 1, lengths=lengths)
    return model.scores(hidden[torch.arange(len(items)), lengths - 1])


@pytest.mark.parametrize("shape", [{}, {"layers": 1}, {"layers": 3, "expand": 3, "d_conv": 2}])
def test_scores_equal_those_of_the_released_model(tmp_path: Path, shape: dict[str, int]) -> None:
    theirs = released_model(**shape)
    path = save(tmp_path / "RecBLR.pth", theirs)  # after one step of training
    ours = recblr.load_released(path)
    assert not ours.training
    assert ours.num_items == N_ITEMS - 1
    batch = padded([1, 2, 5, LENGTH - 1, LENGTH])
    expected = theirs.full_sort_predict(*batch)[:, 1:]
    torch.testing.assert_close(our_scores(ours, *batch), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_checkpoint_is_float32_whatever_the_default_dtype_is(tmp_path: Path, dtype: torch.dtype) -> None:
    path = save(tmp_path / "RecBLR.pth", released_model())
    expected = recblr.load_released(path).state_dict()
    torch.set_default_dtype(dtype)
    try:
        found = recblr.load_released(path).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_config_is_found_in_tensors_and_settings(tmp_path: Path) -> None:
    path = save(tmp_path / "RecBLR.pth", released_model(layers=3, expand=3, d_conv=2))
    assert recblr.load_released(str(path)).config == RecBLRConfig.released(
        LENGTH, d_model=WIDTH, num_layers=3, expand=3, d_conv=2, dropout=0.3
    )


def test_a_state_dict_alone_needs_the_length(tmp_path: Path) -> None:
    theirs = released_model()
    torch.save(theirs.state_dict(), tmp_path / "state.pth")
    with pytest.raises(InputError, match=r"state.pth does not say how long .* give max_length="):
        recblr.load_released(tmp_path / "state.pth")
    ours = recblr.load_released(tmp_path / "state.pth", max_length=LENGTH)
    batch = padded([3, LENGTH])
    expected = theirs.full_sort_predict(*batch)[:, 1:]
    torch.testing.assert_close(our_scores(ours, *batch), expected, rtol=1e-4, atol=1e-4)
    assert recblr.load_released(save(tmp_path / "b.pth", theirs), max_length=64).config.max_length == 64


def test_a_loaded_model_can_be_saved_in_our_format(tmp_path: Path) -> None:
    model = recblr.load_released(save(tmp_path / "RecBLR.pth", released_model()))
    save_model(model, tmp_path / "model.safetensors", [f"i{item}" for item in range(model.num_items)])
    again = load_model(tmp_path / "model.safetensors").model
    assert again.config == model.config
    history = [3, 1, 4, 1, 5]
    assert recommend(again, history, k=4) == recommend(model, history, k=4)
    again.train()
    again.scores(again(torch.tensor([history]))).sum().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "RecBLR.pth", released_model())
    before = torch.get_rng_state()
    recblr.load_released(path)
    assert torch.equal(torch.get_rng_state(), before)


class Malicious:
    """An object whose pickle calls any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


ATTACKS: dict[str, Callable[[str], object]] = {
    "system": lambda mark: Malicious(os.system, f"touch {mark}"),
    "exec": lambda mark: Malicious(builtins.exec, f"open({mark!r}, 'w')"),
    "open": lambda mark: Malicious(builtins.open, mark, "w"),
    "chained": lambda mark: Malicious(builtins.getattr, Malicious(__import__, "os"), "system"),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("entry", ["config", "epoch", "optimizer"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_malicious_pickle_does_not_run(tmp_path: Path, attack: str, entry: str, protocol: int) -> None:
    mark, path = tmp_path / "ran", tmp_path / "RecBLR.pth"
    checkpoint = {"state_dict": released_model().state_dict(), entry: ATTACKS[attack](str(mark))}
    torch.save(checkpoint, path, pickle_protocol=protocol)
    model = recblr.load_released(path, max_length=LENGTH)
    assert model.num_items == N_ITEMS - 1
    assert not mark.exists()
    # Check that the attack works: a reader that trusts the file runs it.
    if attack != "chained":
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_a_malicious_state_dict_is_refused_without_running(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": ATTACKS["open"](str(mark))}, tmp_path / "RecBLR.pth")
    with pytest.raises(InputError, match=r"holds no state dict"):
        recblr.load_released(tmp_path / "RecBLR.pth")
    assert not mark.exists()


def test_no_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_by_a_pickle.py").write_text("raise SystemExit('this ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = with_pickle(tmp_path / "m.pth", b"\x80\x02cimported_by_a_pickle\nThing\n.")
    assert load_untrusted(path) is Inert
    assert "imported_by_a_pickle" not in sys.modules


@pytest.mark.parametrize("name", ["torch._utils\n_rebuild_tensor_v2", "collections\nOrderedDict", "a\nB"])
def test_a_pickle_cannot_change_the_objects_that_it_gets(tmp_path: Path, name: str) -> None:
    # The opcode BUILD with (None, {"__defaults__": ()}) sets attributes of the object on the stack.
    state = pickle.dumps((None, {"__defaults__": (), "__module__": "mine"}), 2)[2:-1]
    path = with_pickle(tmp_path / "m.pth", b"\x80\x02c" + name.encode() + b"\n" + state + b"b.")
    before = {f: (f.__defaults__, f.__module__) for f in (torch._utils._rebuild_tensor_v2,)}
    module, ours = Inert.__module__, dict(vars(Inert))
    try:
        load_untrusted(path)
    except InputError as error:
        assert "is damaged or not a checkpoint" in str(error)  # noqa: PT017
    assert {f: (f.__defaults__, f.__module__) for f in (torch._utils._rebuild_tensor_v2,)} == before
    assert (Inert.__module__, dict(vars(Inert))) == (module, ours)


def test_objects_of_unknown_classes_keep_their_state_and_do_nothing(tmp_path: Path) -> None:
    torch.save({"a": Path("x"), "b": {1, 2}, "c": torch.ones(2), "d": range(3)}, tmp_path / "m.pth")
    found = load_untrusted(tmp_path / "m.pth")
    assert isinstance(found["a"], Inert)
    assert torch.equal(found["c"], torch.ones(2))
    inert = Inert(1, x=2)
    inert["key"] = inert.append(3)  # type: ignore[func-returns-value]
    assert isinstance(inert("called"), Inert)
    assert inert.state is None


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_programs_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "m.pth"))
    with pytest.raises(InputError, match=r"m.pth is damaged or not a checkpoint .*TorchScript"):
        recblr.load_released(tmp_path / "m.pth")


Tensors = dict[str, torch.Tensor]
LAYER = "recurrent_layers.1.behavior_modeling"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("item_embedding.weight"), "it has no tensor item_embedding.weight"),
        (lambda t: t.pop(f"{LAYER}.Lambda"), f"it has no tensor {LAYER}.Lambda"),
        (
            lambda t: [t.pop(name) for name in list(t) if name.startswith("recurrent_layers.0.")],
            "it has no tensor recurrent_layers.0.behavior_modeling.conv1d.weight",
        ),
        (lambda t: t.update({f"{LAYER}.input.bias": torch.zeros(4)}), f"it has a tensor {LAYER}.input.bias"),
        (
            lambda t: t.update({f"{LAYER}.gates.weight": torch.zeros(4, 4)}),
            f"{LAYER}.gates.weight has the shape (4, 4), not (32, 16)",
        ),
        (
            lambda t: t.update({"item_embedding.weight": torch.zeros(1, WIDTH)}),
            f"item_embedding.weight has the shape (1, {WIDTH})",
        ),
        (
            lambda t: t.update({"recurrent_layers.0.behavior_modeling.conv1d.weight": torch.zeros(4, 4)}),
            "conv1d.weight has the shape (4, 4)",
        ),
        (
            lambda t: t.update({f"{LAYER}.conv1d.weight": torch.zeros(16, 4)}),
            f"{LAYER}.conv1d.weight has the shape (16, 4), not (16, 1, 4)",
        ),
        (
            lambda t: t.update({f"{LAYER}.Lambda": t[f"{LAYER}.Lambda"].half()}),
            "Lambda is float16, not float32",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, change: Callable[[Tensors], object], says: str
) -> None:
    tensors = dict(released_model().state_dict())
    change(tensors)
    path = save(tmp_path / "RecBLR.pth", released_model(), state_dict=tensors)
    with pytest.raises(InputError) as raised:
        recblr.load_released(path)
    message = str(raised.value)
    assert says in message
    assert message.startswith(f"{path} does not hold the authors' RecBLR: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "give max_length="),
        ({"MAX_ITEM_LIST_LENGTH": "long"}, "give max_length="),
        ({"MAX_ITEM_LIST_LENGTH": 0}, "max_length must be at least 1, but is 0"),
        ({"MAX_ITEM_LIST_LENGTH": 5, "dropout_prob": 2}, r"dropout must lie in \[0, 1\), but is 2"),
        ({"MAX_ITEM_LIST_LENGTH": 5, "dropout_prob": "much"}, "does not describe a RecBLR model"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        recblr.load_released(save(tmp_path / "RecBLR.pth", released_model(), settings))


@pytest.mark.parametrize(
    "found", [{}, [1, 2], "text", {"state_dict": None}, {"state_dict": {}}, {"a": 1}, {1: 2}]
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, found: Any) -> None:
    torch.save(found, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"m.pth holds no state dict; give a checkpoint"):
        recblr.load_released(tmp_path / "m.pth")


@pytest.mark.parametrize("odd", [torch.zeros(2, device="meta"), torch.zeros(2).to_sparse()])
def test_tensors_without_plain_data_are_refused(tmp_path: Path, odd: torch.Tensor) -> None:
    torch.save({**released_model().state_dict(), "layer_norm.weight": odd}, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"m.pth holds no state dict"):
        recblr.load_released(tmp_path / "m.pth")


@pytest.mark.parametrize("part", [0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    path = save(tmp_path / "RecBLR.pth", released_model())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(
        InputError, match=r"RecBLR.pth is damaged or not a checkpoint .* restore it from a copy"
    ) as e:
        recblr.load_released(path)
    assert "\n" not in str(e.value)


def test_the_weights_only_variable_of_pytorch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)  # torch refuses both at once
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    path = save(tmp_path / "RecBLR.pth", released_model())
    with pytest.raises(InputError, match=r"TORCH_FORCE_WEIGHTS_ONLY_LOAD is set, .* unset it"):
        recblr.load_released(path)
    torch.save(released_model().state_dict(), path)
    assert recblr.load_released(path, max_length=LENGTH).num_items == N_ITEMS - 1


def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "safe")
    torch.save({"a": torch.zeros(2)}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("user_id:token\n")
    for name in ("safe", "legacy", "empty", "text"):
        with pytest.raises(InputError, match=rf"{name} is not a file of torch.save"):
            recblr.load_released(tmp_path / name)
    with pytest.raises(InputError, match=r"cannot read .*nowhere: No such file"):
        recblr.load_released(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        recblr.load_released(tmp_path)
