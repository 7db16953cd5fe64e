"""Arguments that operators refuse.  On every path, a ValueError of one line names the argument."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ops.cases import OPERATORS_REFUSE
from torch import Tensor

import recblr
from recblr._core import scan as numpy_scan
from recblr._core import scan_with_final as numpy_scan_with_final
from recblr.ops.scan import reference_scan, reference_scan_backward, reference_scan_with_final

Arguments = dict[str, Any]
Row = tuple[str, Arguments, str]


def _refuses(call: Callable[..., Any], arguments: Arguments, message: str) -> None:
    is_operator = isinstance(call, torch._ops.OpOverloadPacket)
    with pytest.raises(OPERATORS_REFUSE if is_operator else ValueError, match=message) as caught:
        call(**arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert not re.search(r"/|\.cpp|\.h\b|\.py\b", text), text


def _ids(rows: list[Row]) -> list[str]:
    return [row[0] for row in rows]


def _offsets(*values: int) -> Tensor:
    return torch.tensor(values)


BATCHED: Arguments = {"a": torch.rand(2, 3, 4), "b": torch.rand(2, 3, 4), "initial": torch.rand(2, 4)}
PACKED: Arguments = {
    "a": torch.rand(6, 4),
    "b": torch.rand(6, 4),
    "initial": torch.rand(2, 4),
    "offsets": _offsets(0, 2, 6),
}
INTEGERS = torch.ones(2, 3, 4, dtype=torch.int64)

SCAN: list[Row] = [
    ("integers", BATCHED | {"a": INTEGERS, "b": INTEGERS}, "b must be float32.*int64"),
    ("one axis", {"a": torch.rand(4), "b": torch.rand(4)}, r"b must be .*\(4,\)"),
    ("four axes", {"a": torch.rand(1, 2, 3, 4), "b": torch.rand(1, 2, 3, 4)}, r"b must be .*1, 2, 3, 4"),
    ("no axis", {"a": torch.rand(()), "b": torch.rand(())}, r"b must be .*\(\)"),
    ("a's shape", BATCHED | {"a": torch.rand(2, 3, 5)}, r"a must have b's shape .*\(2, 3, 5\)"),
    ("a does not broadcast", BATCHED | {"a": torch.rand(1, 3, 4)}, r"a must have b's shape .*\(1, 3, 4\)"),
    ("a's axes", BATCHED | {"a": torch.rand(3, 4)}, r"a must have b's shape .*\(3, 4\)"),
    ("a's dtype", BATCHED | {"a": torch.rand(2, 3, 4).double()}, "a must have b's dtype.*float64"),
    ("initial's shape", BATCHED | {"initial": torch.rand(3, 4)}, r"initial must have .*\(3, 4\)"),
    ("initial's axes", BATCHED | {"initial": torch.rand(2, 1, 4)}, r"initial must have .*\(2, 1, 4\)"),
    ("initial's dtype", BATCHED | {"initial": torch.rand(2, 4).double()}, "initial must be float32.*float64"),
    ("integer initial", BATCHED | {"initial": torch.ones(2, 4).long()}, "initial must be float32.*int64"),
    ("single's initial", {"a": torch.rand(3, 4), "b": torch.rand(3, 4), "initial": torch.rand(4)}, "initial"),
    ("batched, not packed", BATCHED | {"offsets": _offsets(0, 6)}, "with offsets, b must be packed"),
    ("packed initial", PACKED | {"initial": torch.rand(3, 4)}, r"initial must have shape \(2, 4\)"),
    ("no offsets", PACKED | {"offsets": _offsets()}, r"offsets must be \(S \+ 1,\)"),
    ("2-D offsets", PACKED | {"offsets": torch.tensor([[0, 6]])}, r"offsets must be \(S \+ 1,\).*\(1, 2\)"),
    ("0-D offsets", PACKED | {"offsets": torch.tensor(0)}, r"offsets must be \(S \+ 1,\).*\(\)"),
    ("float offsets", PACKED | {"offsets": torch.tensor([0.0, 2.0, 6.0])}, "offsets must be int64 or int32"),
    ("short offsets", PACKED | {"offsets": _offsets(0, 2, 6).short()}, "offsets must be int64 or int32"),
]  # fmt: skip

BAD_OFFSETS: list[Row] = [
    ("start after 0", {"offsets": _offsets(1, 2, 6)}, "offsets must start with 0, but starts with 1"),
    ("start before 0", {"offsets": _offsets(-1, 2, 6)}, "offsets must start with 0, but starts with -1"),
    ("decrease", {"offsets": _offsets(0, 7, 6)}, r"offsets must not decrease, but offsets\[2\] is 6 after 7"),
    ("end early", {"offsets": _offsets(0, 2, 5)}, "offsets must end with .* rows 6, but ends with 5"),
    ("end late", {"offsets": _offsets(0, 2, 2**40)}, "offsets must end with the number of rows 6"),
    ("overflow", {"offsets": _offsets(0, -(2**62), 6)}, "offsets must not decrease"),
    ("int32", {"offsets": _offsets(0, 2, 5).int()}, "offsets must end with .* rows 6, but ends with 5"),
    ("only 0", {"offsets": _offsets(0), "initial": None, "grad_final": None}, "offsets must end .* rows 6"),
]  # fmt: skip


def _as_numpy(arguments: Arguments) -> Arguments:
    return {name: x.numpy() if isinstance(x, Tensor) else x for name, x in arguments.items()}


def _on_meta(arguments: Arguments) -> Arguments:
    return {name: x.to("meta") if isinstance(x, Tensor) else x for name, x in arguments.items()}


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in SCAN], ids=_ids(SCAN))
def test_scan_refuses(arguments: Arguments, message: str) -> None:
    for call in (torch.ops.recblr.scan, recblr.scan, reference_scan):
        _refuses(call, arguments, f"scan: {message}")
    for call in (torch.ops.recblr.scan_with_final, recblr.scan_with_final, reference_scan_with_final):
        _refuses(call, arguments, f"scan_with_final: {message}")
    _refuses(recblr.scan, _on_meta(arguments), f"scan: {message}")
    _refuses(recblr.scan_with_final, _on_meta(arguments), f"scan_with_final: {message}")
    for on_numpy in (numpy_scan, numpy_scan_with_final):
        _refuses(on_numpy, _as_numpy(arguments), f"scan: {message}")


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BAD_OFFSETS], ids=_ids(BAD_OFFSETS))
def test_scan_refuses_offsets_that(change: Arguments, message: str) -> None:
    arguments = {name: x for name, x in (PACKED | change).items() if name != "grad_final"}
    for call in (torch.ops.recblr.scan, reference_scan):
        _refuses(call, arguments, f"scan: {message}")
    _refuses(numpy_scan, _as_numpy(arguments), f"scan: {message}")


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BAD_OFFSETS], ids=_ids(BAD_OFFSETS))
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_check_offsets_refuses_offsets_that(change: Arguments, message: str, dtype: torch.dtype) -> None:
    offsets = change["offsets"]
    if dtype == torch.int32 and offsets.abs().max() > 2**31:
        offsets = offsets.clamp(-(2**31), 2**31 - 1)
    arguments = {"offsets": offsets.to(dtype), "rows": 6}
    _refuses(recblr.check_offsets, arguments, f"check_offsets: {message}")


def test_check_offsets_accepts_what_scan_does() -> None:
    for values in ([0], [0, 0, 0]):
        recblr.check_offsets(torch.tensor(values), 0)
    recblr.check_offsets(torch.tensor([0, 2, 2, 6], dtype=torch.int32)[::1], 6)
    recblr.check_offsets(torch.tensor([0, 9, 2, 9, 6, 9])[::2], 6)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (torch.tensor([0.0, 6.0]), "offsets must be int64 or int32, but is float32"),
        (torch.tensor([[0, 6]]), r"offsets must be \(S \+ 1,\), but has shape \(1, 2\)"),
        (torch.tensor([], dtype=torch.int64), r"offsets must be \(S \+ 1,\), but has shape \(0,\)"),
    ],
)
def test_check_offsets_refuses_other_tensors(offsets: Tensor, message: str) -> None:
    _refuses(recblr.check_offsets, {"offsets": offsets, "rows": 6}, f"check_offsets: {message}")


@pytest.mark.parametrize("change", [{"a": "meta"}, {"b": "meta"}, {"initial": "meta"}, {"offsets": "meta"}])
def test_scan_refuses_mixed_devices(change: dict[str, str]) -> None:
    ((name, device),) = change.items()
    arguments = PACKED | {name: PACKED[name].to(device)}
    named = "a" if name == "b" else name  # b is the argument that others are compared with
    for call in (torch.ops.recblr.scan, reference_scan):
        _refuses(call, arguments, f"scan: {named} must be on ")


def test_arguments_that_need_gradients_are_refused_too() -> None:
    arguments = BATCHED | {"a": torch.rand(2, 3, 5, requires_grad=True)}
    _refuses(recblr.scan, arguments, "scan: a must have b's shape")


def test_half_arguments_need_a_float32_state() -> None:
    half = {name: x.bfloat16() for name, x in BATCHED.items()}
    for call in (recblr.scan, reference_scan):
        _refuses(call, half, "scan: initial must be float32, the accumulation dtype, but is bfloat16")
    _refuses(recblr.scan, half | {"a": BATCHED["a"].half()}, "scan: a must have b's dtype bfloat16.*float16")


BACKWARD: Arguments = {
    "grad": torch.rand(6, 4),
    "grad_final": torch.rand(2, 4),
    "a": torch.rand(6, 4),
    "h": torch.rand(6, 4),
    "initial": torch.rand(2, 4),
    "offsets": _offsets(0, 2, 6),
    "reverse": False,
}
BAD_BACKWARD: list[Row] = [
    ("integers", {"h": torch.ones(6, 4).int()}, "h must be float32.*int32"),
    ("grad's shape", {"grad": torch.rand(6, 5)}, r"grad must have h's shape .*\(6, 5\)"),
    ("grad's dtype", {"grad": torch.rand(6, 4).double()}, "grad must have h's dtype"),
    ("grad_final's shape", {"grad_final": torch.rand(2, 5)}, r"grad_final must have shape \(2, 4\)"),
    ("grad_final's dtype", {"grad_final": torch.rand(2, 4).double()}, "grad_final must be float32"),
    ("a's shape", {"a": torch.rand(5, 4)}, r"a must have h's shape .*\(5, 4\)"),
    ("a's dtype", {"a": torch.rand(6, 4).double()}, "a must have h's dtype"),
    ("initial's shape", {"initial": torch.rand(1, 4)}, "initial must have shape"),
    ("initial's dtype", {"initial": torch.rand(2, 4).double()}, "initial must be float32"),
    ("offsets' shape", {"offsets": _offsets()}, "offsets must be"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BAD_BACKWARD], ids=_ids(BAD_BACKWARD))
def test_the_backward_refuses(change: Arguments, message: str) -> None:
    arguments = BACKWARD | change
    for call in (torch.ops.recblr._scan_backward, reference_scan_backward):
        _refuses(call, arguments, f"_scan_backward: {message}")
    _refuses(torch.ops.recblr._scan_backward, _on_meta(arguments), f"_scan_backward: {message}")


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BAD_OFFSETS], ids=_ids(BAD_OFFSETS))
def test_the_backward_refuses_offsets_that(change: Arguments, message: str) -> None:
    for call in (torch.ops.recblr._scan_backward, reference_scan_backward):
        _refuses(call, BACKWARD | change, message)


UNIT: Arguments = {
    "x": torch.rand(6, 4),
    "gates": torch.rand(6, 8),
    "decay": torch.rand(4),
    "z": torch.rand(6, 4),
    "initial": torch.rand(2, 4),
    "offsets": _offsets(0, 2, 6),
    "scale": torch.rand(6, 1),
}
BAD_UNIT: list[Row] = [
    ("integers", {"x": torch.ones(6, 4).int()}, "x must be float32.*int32"),
    ("x's axes", {"x": torch.rand(4), "offsets": None}, "x must be"),
    ("x not packed", {"x": torch.rand(1, 6, 4)}, "with offsets, x must be packed"),
    ("gates' shape", {"gates": torch.rand(6, 4)}, r"gates must have shape \(6, 8\).*\(6, 4\)"),
    ("gates' dtype", {"gates": torch.rand(6, 8).double()}, "gates must be float32.*float64"),
    ("decay's shape", {"decay": torch.rand(1)}, r"decay must have shape \(4,\)"),
    ("decay's dtype", {"decay": torch.rand(4).bfloat16()}, "decay must be float32.*bfloat16"),
    ("z's shape", {"z": torch.rand(6, 1)}, "z must have x's shape"),
    ("z's dtype", {"z": torch.rand(6, 4).double()}, "z must have x's dtype"),
    ("initial's shape", {"initial": torch.rand(4)}, r"initial must have shape \(2, 4\)"),
    ("initial's dtype", {"initial": torch.rand(2, 4).double()}, "initial must be float32"),
    ("scale's shape", {"scale": torch.rand(6)}, r"scale must have shape \(6, 1\)"),
    ("integer scale", {"scale": torch.ones(6, 1).int()}, "scale must be float32.*int32"),
    ("offsets' dtype", {"offsets": torch.tensor([0.0, 6.0])}, "offsets must be int64 or int32"),
    ("offsets' shape", {"offsets": torch.tensor([[0, 6]])}, "offsets must be"),
    *((name, {name: "meta"}, f"{name} must be on") for name in
      ("gates", "decay", "z", "initial", "offsets", "scale")),
]  # fmt: skip

CONV: Arguments = {
    "x": torch.rand(6, 4),
    "weight": torch.rand(4, 3),
    "bias": torch.rand(4),
    "initial": torch.rand(2, 2, 4),
    "offsets": _offsets(0, 2, 6),
}
BAD_CONV: list[Row] = [
    ("integers", {"x": torch.ones(6, 4).int()}, "x must be float32.*int32"),
    ("x not packed", {"x": torch.rand(1, 6, 4)}, "with offsets, x must be packed"),
    ("weight's channels", {"weight": torch.rand(3, 3)}, r"weight must have shape \(4, K\).*\(3, 3\)"),
    ("no taps", {"weight": torch.rand(4, 0)}, "weight must have shape .* K >= 1"),
    ("weight's axes", {"weight": torch.rand(4, 1, 3)}, "weight must have shape"),
    ("integer weight", {"weight": torch.ones(4, 3).int()}, "weight must be float32.*int32"),
    ("bias' shape", {"bias": torch.rand(3)}, r"bias must have shape \(4,\)"),
    ("integer bias", {"bias": torch.ones(4).int()}, "bias must be float32.*int32"),
    ("initial's shape", {"initial": torch.rand(2, 3, 4)}, r"initial must have shape \(2, 2, 4\)"),
    ("initial's dtype", {"initial": torch.rand(2, 2, 4).double()}, "initial must be float32"),
    ("offsets' dtype", {"offsets": torch.tensor([0.0, 6.0])}, "offsets must be int64 or int32"),
    ("offsets' shape", {"offsets": _offsets()}, "offsets must be"),
    *((name, {name: "meta"}, f"{name} must be on") for name in ("weight", "bias", "initial", "offsets")),
]  # fmt: skip


def _changed(arguments: Arguments, change: Arguments) -> Arguments:
    """The arguments with a change.  The change "meta" moves an argument to the meta device."""
    moved = {k: arguments[k].to("meta") if isinstance(v, str) else v for k, v in change.items()}
    return arguments | moved


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BAD_UNIT], ids=_ids(BAD_UNIT))
def test_bdlru_refuses(change: Arguments, message: str) -> None:
    _refuses(recblr.bdlru, _changed(UNIT, change), f"bdlru: {message}")


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BAD_CONV], ids=_ids(BAD_CONV))
def test_causal_conv1d_refuses(change: Arguments, message: str) -> None:
    _refuses(recblr.causal_conv1d, _changed(CONV, change), f"causal_conv1d: {message}")


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BAD_OFFSETS], ids=_ids(BAD_OFFSETS))
def test_bdlru_and_causal_conv1d_refuse_offsets_that(change: Arguments, message: str) -> None:
    change = {name: x for name, x in change.items() if name != "grad_final"}
    _refuses(recblr.bdlru, UNIT | change, message)
    _refuses(recblr.causal_conv1d, CONV | change, message)


def test_numpy_arrays_in_foreign_byte_order_or_unaligned_are_refused() -> None:
    b = np.ones((3, 4), np.float32)
    _refuses(numpy_scan, {"a": b.astype(">f4"), "b": b}, "scan: a must have b's dtype")
    unaligned = np.frombuffer(bytes(49), np.float32, 12, offset=1).reshape(3, 4)
    _refuses(numpy_scan, {"a": unaligned, "b": b}, "scan: a must be aligned")
    packed = np.zeros(12, [("skip", "i1"), ("value", "<f4")])["value"].reshape(3, 4)
    _refuses(numpy_scan, {"a": b, "b": packed}, "scan: b must be aligned")


def _resident_mebibytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory figures that only Linux has")
def test_arguments_are_freed_whether_refused_or_not() -> None:
    a = torch.rand(1, 1, 2**18)  # 1 MiB
    before = _resident_mebibytes()
    for _ in range(80):
        with pytest.raises(ValueError, match="initial"):
            recblr.scan(a.clone(), a.clone(), torch.ones(2, 2**18))
        recblr.scan(a.clone(), a.clone(), torch.ones(1, 2**18))
    assert _resident_mebibytes() - before < 40
