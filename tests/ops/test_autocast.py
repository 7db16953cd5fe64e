"""Autocast: the scan runs in float32; bdlru and causal_conv1d cast large inputs, but not states."""

import pytest
import torch
from torch import Tensor

import recblr

HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", HALF)
def test_the_scan_runs_in_float32_for_every_input_dtype(dtype: torch.dtype) -> None:
    a, b, initial = torch.rand(2, 5, 3), torch.rand(2, 5, 3), torch.rand(2, 3)
    with torch.autocast("cpu", dtype):
        h = recblr.scan(a, b.to(dtype), initial)
        whole, final = recblr.scan_with_final(a.to(dtype), b.to(dtype), initial.to(dtype))
    assert h.dtype == whole.dtype == final.dtype == torch.float32
    assert torch.equal(h, recblr.scan(a, b.to(dtype).float(), initial))
    wanted = recblr.scan_with_final(a.to(dtype).float(), b.to(dtype).float(), initial.to(dtype).float())
    assert torch.equal(whole, wanted[0])
    assert torch.equal(final, wanted[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_dtypes_that_autocast_ignores_do_not_change(dtype: torch.dtype) -> None:
    a, b = torch.rand(2, 5, 3, dtype=dtype), torch.rand(2, 5, 3, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(recblr.scan(a, b), recblr.scan(a, b))
        assert recblr.scan(a, b).dtype == dtype
        if dtype == torch.float64:
            gates, decay = torch.rand(2, 5, 6, dtype=dtype), torch.rand(3, dtype=dtype)
            assert recblr.bdlru(a, gates, decay)[0].dtype == dtype


def _unit() -> dict[str, Tensor]:
    return {
        "x": torch.randn(2, 50, 8),
        "gates": torch.randn(2, 50, 16),
        "decay": torch.rand(8) * 0.01,
        "z": torch.randn(2, 50, 8),
        "initial": torch.randn(2, 8),
        "scale": torch.rand(2, 50, 1),
    }


@pytest.mark.parametrize("dtype", HALF)
def test_bdlru_casts_only_x_gates_and_z(dtype: torch.dtype) -> None:
    given = _unit()
    with torch.autocast("cpu", dtype):
        y, final = recblr.bdlru(**given)
    cast = {name: x.to(dtype) if name in ("x", "gates", "z") else x for name, x in given.items()}
    wanted_y, wanted_final = recblr.bdlru(**cast)
    assert (y.dtype, final.dtype) == (dtype, torch.float32)
    assert torch.equal(y, wanted_y)
    assert torch.equal(final, wanted_final)


@pytest.mark.parametrize("dtype", HALF)
def test_causal_conv1d_casts_only_its_input(dtype: torch.dtype) -> None:
    x, weight, bias, initial = torch.randn(2, 9, 4), torch.randn(4, 3), torch.randn(4), torch.randn(2, 2, 4)
    with torch.autocast("cpu", dtype):
        y, final = recblr.causal_conv1d(x, weight, bias, initial)
    wanted_y, wanted_final = recblr.causal_conv1d(x.to(dtype), weight, bias, initial)
    assert (y.dtype, final.dtype) == (dtype, torch.float32)
    assert torch.equal(y, wanted_y)
    assert torch.equal(final, wanted_final)


def test_gradients_have_the_dtype_of_their_inputs() -> None:
    given = {name: x.requires_grad_() for name, x in _unit().items()}
    with torch.autocast("cpu", torch.bfloat16):
        y, final = recblr.bdlru(**given)
        h = recblr.scan(torch.sigmoid(y), given["x"], final)
    grads = torch.autograd.grad(h.square().sum(), list(given.values()))
    assert all(g.dtype == torch.float32 and g.isfinite().all() and g.any() for g in grads)
    y, final = recblr.bdlru(**given)
    exact = torch.autograd.grad(
        recblr.scan(torch.sigmoid(y), given["x"], final).square().sum(), list(given.values())
    )
    for got, wanted in zip(grads, exact, strict=True):
        assert (got - wanted).norm() < 0.05 * wanted.norm()


def test_a_compiled_model_under_autocast_equals_the_eager_model() -> None:
    torch._dynamo.reset()
    layer = recblr.RecBLRLayer(8).eval()
    x = torch.randn(2, 6, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(x), layer(x), rtol=2e-2, atol=2e-2)


def test_a_layer_under_autocast_stays_near_float32_and_keeps_float32_states() -> None:
    layer = recblr.RecBLRLayer(16).eval()
    x = torch.randn(3, 40, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer.with_state(x)
        stepped, _ = layer.step(x[:, 0])
    assert state.conv.dtype == state.hidden.dtype == torch.float32
    assert stepped.isfinite().all()
    torch.testing.assert_close(y.float(), layer(x), rtol=5e-2, atol=5e-2)
    layer.bfloat16()
    half, _ = layer.with_state(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), y.float(), rtol=0.1, atol=0.1)
