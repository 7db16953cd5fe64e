"""torch.func on the operators: grad, jacrev, nesting and vmap."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recblr

OFFSETS = torch.tensor([0, 2, 2, 5])
KINDS = {"batched": ((2, 5, 3), None), "packed": ((5, 3), OFFSETS)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A fixed seed.  With other random numbers, float32 errors can exceed the tolerance."""
    torch.manual_seed(0)


def _close(got: Any, wanted: Any) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def _arguments(kind: str) -> tuple[dict[str, Tensor], Tensor | None]:
    shape, offsets = KINDS[kind]
    sequences = 3 if offsets is not None else 2
    double = torch.float64
    return {
        "a": torch.rand(shape, dtype=double),
        "b": torch.rand(shape, dtype=double),
        "initial": torch.rand(sequences, 3, dtype=double),
        "gates": torch.rand(*shape[:-1], 6, dtype=double),
        "decay": torch.rand(3, dtype=double),
        "weight": torch.rand(3, 2, dtype=double),
    }, offsets


def _everything(given: dict[str, Tensor], offsets: Tensor | None) -> Tensor:
    """A scalar that depends on every operator and every argument."""
    h, final = recblr.scan_with_final(given["a"], given["b"], given["initial"], offsets)
    conv, past = recblr.causal_conv1d(h, given["weight"], offsets=offsets)
    y, state = recblr.bdlru(conv, given["gates"], given["decay"], h, final, offsets)
    again = recblr.scan(torch.sigmoid(y), given["b"], state, offsets, True)
    return again.square().sum() + past.square().sum()


@pytest.mark.parametrize("kind", KINDS)
def test_grad_equals_autograd(kind: str) -> None:
    given, offsets = _arguments(kind)
    got = torch.func.grad(_everything)(given, offsets)
    leaves = {name: x.requires_grad_() for name, x in given.items()}
    wanted = torch.autograd.grad(_everything(leaves, offsets), list(leaves.values()))
    _close(list(got.values()), list(wanted))


@pytest.mark.parametrize("kind", KINDS)
def test_grad_of_grad_and_jacrev_of_jacrev_equal_autograd(kind: str) -> None:
    given, offsets = _arguments(kind)
    others = {name: x for name, x in given.items() if name != "a"}

    def run(a: Tensor) -> Tensor:
        return _everything({"a": a, **others}, offsets)

    hessian = torch.func.jacrev(torch.func.jacrev(run))(given["a"])
    _close(hessian, torch.autograd.functional.hessian(run, given["a"]))
    nested = torch.func.grad(lambda a: torch.func.grad(run)(a).square().sum())(given["a"])
    leaf = given["a"].clone().requires_grad_()
    (first,) = torch.autograd.grad(run(leaf), leaf, create_graph=True)
    _close(nested, torch.autograd.grad(first.square().sum(), leaf)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_vmap_of_gradients_equals_a_loop_of_gradients(kind: str) -> None:
    _, offsets = _arguments(kind)
    calls = [_arguments(kind)[0] for _ in range(4)]
    batch = {name: torch.stack([call[name] for call in calls]) for name in calls[0]}
    got = torch.vmap(torch.func.grad(_everything), in_dims=(0, None))(batch, offsets)
    wanted = [torch.func.grad(_everything)(call, offsets) for call in calls]
    for name, value in got.items():
        _close(value, torch.stack([call[name] for call in wanted]))


def test_a_layers_gradients_for_every_sample_of_a_batch() -> None:
    layer = recblr.RecBLRLayer(4)
    parameters = dict(layer.named_parameters())
    samples = torch.rand(3, 6, 4)

    def loss(parameters: dict[str, nn.Parameter], sample: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(layer, parameters, (sample.unsqueeze(0),))
        return out.square().sum()

    got = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, samples)
    for s, sample in enumerate(samples):
        wanted = torch.autograd.grad(loss(parameters, sample), list(parameters.values()))
        _close([got[name][s] for name in parameters], list(wanted))


@pytest.mark.parametrize("name", ["scan", "scan_with_final", "bdlru", "causal_conv1d"])
def test_grad_of_a_bare_operator(name: str) -> None:
    given, offsets = _arguments("packed")
    others = {
        "scan": [given["b"], given["initial"]],
        "bdlru": [given["gates"], given["decay"], given["b"], given["initial"]],
        "causal_conv1d": [given["weight"], None, None],
    }[name.removesuffix("_with_final")]

    def loss(function: Any, x: Tensor) -> Tensor:
        out = function(x, *others, offsets)
        return (out if name == "scan" else out[0] + out[1].sum()).sin().sum()

    bare, public = getattr(torch.ops.recblr, name), getattr(recblr, name)
    got = torch.func.grad(lambda x: loss(bare, x))(given["a"])
    leaf = given["a"].clone().requires_grad_()
    _close(got, torch.autograd.grad(loss(public, leaf), leaf)[0])
