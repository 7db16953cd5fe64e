"""Forward-mode derivatives of the operators, compared with those of Python loops of PyTorch operations."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from ops.reference import differentiable_recurrence, rows_of_sequences
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp

import recblr
from recblr.nn.common import Dropout
from recblr.nn.losses import linear_cross_entropy
from recblr.nn.repeats import Repeats
from recblr.nn.units import HistoryAverage
from recblr.ops.bdlru import bdlru_with_epsilon

OPS = torch.ops.recblr
DOUBLE = torch.float64

Function = Callable[..., Any]
Values = dict[str, Tensor]


def _boundaries(offsets: Tensor | None) -> list[int] | None:
    return None if offsets is None else offsets.tolist()


def plain_scan(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    return differentiable_recurrence(a, b, initial, _boundaries(offsets), reverse)


def _silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()  # the gradient of torch's silu has no tangent


def plain_bdlru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    scale: Tensor | None = None,
    epsilon: float | None = None,
) -> tuple[Tensor, Tensor]:
    r, i = gates.sigmoid().chunk(2, -1)
    u = decay * r * (1 if scale is None else scale)
    beta = torch.sqrt(1 - torch.exp(-2 * u) + (epsilon or 0))
    h, final = plain_scan(torch.exp(-u), beta * i * x, initial, offsets)
    return (h if z is None else h * _silu(z)), final


def plain_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    silu: bool = True,
) -> tuple[Tensor, Tensor]:
    channels, width = weight.shape
    y: dict[Any, Tensor] = {}
    final = []
    for s, rows in enumerate(rows_of_sequences(x.shape, _boundaries(offsets))):
        past = x.new_zeros(width - 1, channels) if initial is None else initial[s]
        inputs = torch.cat([past, torch.stack([x[row] for row in rows])]) if rows else past
        for t, row in enumerate(rows):
            y[row] = (inputs[t : t + width] * weight.T).sum(0)
        final.append(inputs[len(inputs) - (width - 1) :])
    whole = torch.stack([y[row] for row in sorted(y)]).reshape(x.shape)
    whole = whole if bias is None else whole + bias
    return (_silu(whole) if silu else whole), torch.stack(final)


class Operator(NamedTuple):
    """The public function, the bare operator, a loop that computes the same, and what they take."""

    public: Function
    bare: Function
    plain: Function
    tensors: tuple[str, ...]
    options: dict[str, Any]


def _first(function: Function) -> Function:
    return lambda *given, **named: function(*given, **named)[0]


def _with_epsilon(x: Tensor, gates: Tensor, decay: Tensor, *others: Tensor | None, **named: Any) -> Any:
    z, initial = others if others else (named.get("z"), named.get("initial"))
    return bdlru_with_epsilon(1e-3, x, gates, decay, z, initial, named.get("offsets"))


SCAN, UNIT = ("a", "b", "initial"), ("x", "gates", "decay", "z", "initial")
CONV = ("x", "weight", "bias", "past")
OPERATORS = {
    "scan": Operator(recblr.scan, OPS.scan, _first(plain_scan), SCAN, {}),
    "scan in reverse": Operator(recblr.scan, OPS.scan, _first(plain_scan), SCAN, {"reverse": True}),
    "scan_with_final": Operator(recblr.scan_with_final, OPS.scan_with_final, plain_scan, SCAN, {}),
    "scan_with_final in reverse": Operator(
        recblr.scan_with_final, OPS.scan_with_final, plain_scan, SCAN, {"reverse": True}
    ),
    "bdlru": Operator(recblr.bdlru, OPS.bdlru, plain_bdlru, (*UNIT, "scale"), {}),
    "bdlru with epsilon": Operator(
        _with_epsilon, _with_epsilon, partial(plain_bdlru, epsilon=1e-3), UNIT, {}
    ),
    "causal_conv1d": Operator(recblr.causal_conv1d, OPS.causal_conv1d, plain_causal_conv1d, CONV, {}),
    "causal_conv1d without silu": Operator(
        recblr.causal_conv1d, OPS.causal_conv1d, plain_causal_conv1d, CONV, {"silu": False}
    ),
}
KINDS = {
    "batched": ((2, 4, 3), None),
    "single": ((4, 3), None),
    "packed": ((5, 3), torch.tensor([0, 2, 2, 5], dtype=torch.int32)),
    "small": ((1, 2, 1), None),
    "small packed": ((3, 1), torch.tensor([0, 1, 3])),
}
REQUIRED = {"a", "b", "x", "gates", "decay", "weight"}

every_operator = pytest.mark.parametrize("name", OPERATORS)
every_kind = pytest.mark.parametrize("kind", ["batched", "single", "packed"])
with_and_without_options = pytest.mark.parametrize("full", [True, False])


def _values(kind: str, names: tuple[str, ...], full: bool, seed: int, dtype: torch.dtype = DOUBLE) -> Values:
    """Random values between 0.1 and 0.9; without `full`, only for the arguments that are required."""
    shape, offsets = KINDS[kind]
    channels = shape[-1]
    sequences = len(offsets) - 1 if offsets is not None else shape[0] if len(shape) == 3 else 1
    sizes = {
        "gates": (*shape[:-1], 2 * channels),
        "decay": (channels,),
        "initial": (sequences, channels),
        "scale": (*shape[:-1], 1),
        "weight": (channels, 3),
        "bias": (channels,),
        "past": (sequences, 2, channels),
    }
    random = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 + 0.8 * torch.rand(sizes.get(name, shape), generator=random, dtype=dtype)
        for name in names
        if full or name in REQUIRED
    }


def _call(function: Function, options: dict[str, Any], values: Values) -> tuple[Tensor, ...]:
    renamed = {"initial" if name == "past" else name: value for name, value in values.items()}
    out = function(**renamed, **options)
    return (out,) if isinstance(out, Tensor) else tuple(out)


def _problem(
    name: str, kind: str, full: bool = True
) -> tuple[Values, Values, Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Values, tangents, and functions of the values: the public one, the bare operator, and the loop."""
    operator, offsets = OPERATORS[name], KINDS[kind][1]
    options = operator.options if offsets is None else {**operator.options, "offsets": offsets}
    functions = (partial(_call, f, options) for f in (operator.public, operator.bare, operator.plain))
    values = _values(kind, operator.tensors, full, 1)
    return values, _values(kind, operator.tensors, full, 2), *functions


def _dual_run(function: Function, values: Values, tangents: Values) -> tuple[Any, Any]:
    """The outputs of the function and their tangents.  A tangent that is None counts as wrong."""
    with forward_ad.dual_level():
        given = {
            name: forward_ad.make_dual(value, tangents[name]) if name in tangents else value
            for name, value in values.items()
        }
        pairs = [forward_ad.unpack_dual(out) for out in function(given)]
        return [pair.primal.detach() for pair in pairs], [pair.tangent for pair in pairs]


def _scalar(function: Function) -> Function:
    return lambda values: sum(out.sin().sum() for out in function(values))


def _close(got: Any, wanted: Any, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def _subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    """One name, all but one, and all."""
    yield from itertools.combinations(names, 1)
    yield from itertools.combinations(names, len(names) - 1)
    yield tuple(names)


@every_operator
@every_kind
@with_and_without_options
@pytest.mark.parametrize("needs_grad", [False, True])
def test_dual_numbers_on_any_of_the_arguments(name: str, kind: str, full: bool, needs_grad: bool) -> None:
    values, tangents, public, bare, plain = _problem(name, kind, full)
    values = {name: value.requires_grad_(needs_grad) for name, value in values.items()}
    for subset in _subsets(list(values)):
        chosen = {name: tangents[name] for name in subset}
        others = {name: value for name, value in values.items() if name not in subset}
        moving = {name: values[name] for name in subset}
        wanted = jvp(lambda m, o=others: plain({**m, **o}), (moving,), (chosen,))
        for function in (public, bare):
            got, got_tangents = _dual_run(function, values, chosen)
            _close(got, [out.detach() for out in wanted[0]])
            # An output that does not depend on the arguments may have no tangent.
            for t, w in zip(got_tangents, wanted[1], strict=True):
                _close(torch.zeros_like(w) if t is None else t, w)


@every_operator
@every_kind
@with_and_without_options
def test_jvp_and_jacfwd(name: str, kind: str, full: bool) -> None:
    values, tangents, public, bare, plain = _problem(name, kind, full)
    for function in (public, bare):
        _close(jvp(function, (values,), (tangents,)), jvp(plain, (values,), (tangents,)))
        _close(jacfwd(function)(values), jacrev(plain)(values))


@every_operator
@every_kind
def test_gradcheck_in_forward_mode(name: str, kind: str) -> None:
    values, _, public, bare, _ = _problem(name, kind)
    inputs = [value.requires_grad_() for value in values.values()]
    for function in (public, bare):

        def run(*given: Tensor, function: Function = function) -> Any:
            return function(dict(zip(values, given, strict=True)))

        assert gradcheck(run, inputs, check_forward_ad=True, check_batched_forward_grad=True, fast_mode=True)
        assert gradgradcheck(run, inputs, check_fwd_over_rev=True, fast_mode=True)


def _along(function: Function, tangents: Values) -> Function:
    return lambda values: jvp(function, (values,), (tangents,))[1]


def _total(values: Values) -> Tensor:
    return torch.stack([value.sin().sum() for value in values.values()]).sum()


COMPOSITIONS: dict[str, Callable[[Function, Values], Function]] = {
    "jvp of grad": lambda f, t: _along(grad(_scalar(f)), t),
    "grad of jvp": lambda f, t: grad(_scalar(_along(f, t))),
    "jvp of jvp": lambda f, t: _along(_along(f, t), t),
    "jvp of grad of jvp": lambda f, t: _along(grad(_scalar(_along(f, t))), t),
    "grad of jvp of grad": lambda f, t: grad(lambda v: _total(_along(grad(_scalar(f)), t)(v))),
    "hessian": lambda f, _: hessian(_scalar(f)),
    "jacobians": lambda f, _: lambda v: (jacfwd(jacfwd(f))(v), jacrev(jacfwd(f))(v)),
}
SMALL = {"batched": "small", "packed": "small packed"}


@every_operator
@pytest.mark.parametrize("kind", ["batched", "packed"])
@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_forward_over_reverse_and_reverse_over_forward(name: str, kind: str, composition: str) -> None:
    kind = SMALL[kind] if composition == "jacobians" else kind
    values, tangents, public, bare, plain = _problem(name, kind)
    wanted = COMPOSITIONS[composition](plain, tangents)(values)
    for function in (public, bare):
        _close(COMPOSITIONS[composition](function, tangents)(values), wanted)


@every_operator
@every_kind
def test_vmap_of_jvp_equals_a_loop(name: str, kind: str) -> None:
    values, tangents, public, bare, plain = _problem(name, kind)
    batch = {key: torch.stack([value, value / 2, value**2]) for key, value in values.items()}
    wanted = [_along(plain, tangents)({key: x[call] for key, x in batch.items()}) for call in range(3)]
    for function in (public, bare):
        got = torch.vmap(_along(function, tangents))(batch)
        _close(got, tuple(torch.stack(part) for part in zip(*wanted, strict=True)))


@every_operator
@every_kind
def test_a_tangent_may_come_in_with_the_gradient(name: str, kind: str) -> None:
    values, _, public, bare, plain = _problem(name, kind)
    inputs = {key: value.requires_grad_() for key, value in values.items()}

    def gradients(function: Function) -> list[tuple[Any, Any]]:
        outputs = function(inputs)
        with forward_ad.dual_level():
            cotangents = [forward_ad.make_dual(out.detach().cos(), out.detach().exp()) for out in outputs]
            found = torch.autograd.grad(outputs, list(inputs.values()), cotangents)
            return [tuple(forward_ad.unpack_dual(x)) for x in found]

    wanted = gradients(plain)
    for function in (public, bare):
        _close(gradients(function), wanted)


@every_operator
@every_kind
def test_gradients_of_dual_numbers_have_tangents(name: str, kind: str) -> None:
    values, tangents, public, bare, plain = _problem(name, kind)
    inputs = {key: value.requires_grad_() for key, value in values.items()}

    def gradients(function: Function) -> list[tuple[Any, Any]]:
        with forward_ad.dual_level():
            given = {key: forward_ad.make_dual(value, tangents[key]) for key, value in inputs.items()}
            found = torch.autograd.grad(_scalar(function)(given), list(given.values()), create_graph=True)
            pairs = [forward_ad.unpack_dual(x) for x in found]
            # The gradient of the tangents too: a third derivative.
            total = torch.stack([pair.tangent.sin().sum() for pair in pairs]).sum()
            third = torch.autograd.grad(total, list(inputs.values()))
            return [*(tuple(pair) for pair in pairs), third]

    wanted = gradients(plain)
    for function in (public, bare):
        _close(gradients(function), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@every_operator
@every_kind
def test_other_dtypes(name: str, kind: str, dtype: torch.dtype) -> None:
    values, tangents, public, bare, plain = _problem(name, kind)
    # States and parameters are in float32.
    wide = {"decay", "initial", "past", "weight", "bias", "scale"}

    def narrow(given: Values) -> Values:
        return {key: x.to(torch.float32 if key in wide else dtype) for key, x in given.items()}

    values, tangents = narrow(values), narrow(tangents)
    exact = [{key: x.double() for key, x in given.items()} for given in (values, tangents)]
    _, wanted = jvp(plain, (exact[0],), (exact[1],))
    for function in (public, bare):
        outputs, got = _dual_run(function, values, tangents)
        assert [t.dtype for t in got] == [out.dtype for out in outputs]
        tolerance = 1e-5 if dtype == torch.float32 else 8 * torch.finfo(dtype).eps
        _close([t.double() for t in got], [*wanted], tolerance)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@every_kind
@pytest.mark.parametrize("reverse", [False, True])
def test_complex_scans(kind: str, dtype: torch.dtype, reverse: bool) -> None:
    offsets = KINDS[kind][1]
    parts = [_values(kind, SCAN, True, seed) for seed in range(4)]
    values = {name: torch.complex(x, parts[1][name]).to(dtype) for name, x in parts[0].items()}
    tangents = {name: torch.complex(x, parts[3][name]).to(dtype) for name, x in parts[2].items()}
    tolerance = 1e-5 if dtype == torch.complex64 else 1e-12
    options = {"offsets": offsets, "reverse": reverse}
    functions = [partial(_call, f, options) for f in (recblr.scan_with_final, OPS.scan_with_final)]
    plain = partial(_call, plain_scan, options)
    wanted = jvp(plain, (values,), (tangents,))[1]
    for function in functions:
        _close(_dual_run(function, values, tangents)[1], [*wanted], tolerance)
        inputs = [x.clone().requires_grad_() for x in values.values()]

        def run(*given: Tensor, function: Function = function) -> Any:
            return function(dict(zip(SCAN, given, strict=True)))

        if dtype == torch.complex128:
            assert gradcheck(run, inputs, check_forward_ad=True, fast_mode=True)
            assert gradgradcheck(run, inputs, check_fwd_over_rev=True, fast_mode=True)


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
def test_tangents_of_empty_sequences(shape: tuple[int, ...]) -> None:
    values = {"a": torch.rand(shape), "b": torch.rand(shape), "initial": torch.rand(shape[0], shape[2])}
    outputs, tangents = _dual_run(partial(_call, recblr.scan_with_final, {}), values, values)
    assert [t.shape for t in tangents] == [out.shape for out in outputs]
    if shape[1] == 0:
        _close(tangents[1], values["initial"])


def test_a_tangent_changes_no_bit_of_a_scan() -> None:
    values, tangents, public, _, _ = _problem("scan_with_final", "batched")
    got, _ = _dual_run(public, values, tangents)
    assert all(torch.equal(g, w) for g, w in zip(got, public(values), strict=True))


def test_tangents_of_a_long_scan_and_a_wide_convolution() -> None:
    random = torch.Generator().manual_seed(1)
    a, b, ta, tb = (torch.rand(1, 9000, 1, generator=random, dtype=DOUBLE) for _ in range(4))
    _, got = jvp(recblr.scan, (a, b), (ta, tb))
    wanted = _slope(lambda step: recblr.scan(a + step * ta, b + step * tb))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)

    x, weight, t = torch.rand(2, 90, 3), torch.rand(3, 70), torch.rand(2, 90, 3)
    conv = partial(recblr.causal_conv1d, weight=weight, silu=False)
    _close(jvp(lambda x: conv(x)[0], (x,), (t,))[1], conv(t)[0], 1e-4)


@every_operator
def test_no_grad_keeps_tangents(name: str) -> None:
    values, tangents, public, bare, plain = _problem(name, "batched")
    wanted = jvp(plain, (values,), (tangents,))[1]
    for function in (public, bare):
        with torch.no_grad():
            _close(_dual_run(function, values, tangents)[1], [*wanted])


@every_operator
def test_wrong_offsets_are_refused_in_forward_mode_too(name: str) -> None:
    values, tangents, _, _, _ = _problem(name, "packed")
    operator = OPERATORS[name]
    options = {**operator.options, "offsets": torch.tensor([0, 4, 2, 5])}
    for function in (operator.public, operator.bare):
        with pytest.raises((ValueError, RuntimeError), match="offsets must not decrease"):
            _dual_run(partial(_call, function, options), values, tangents)


@pytest.mark.parametrize("name", ["scan_with_final", "bdlru", "causal_conv1d"])
def test_autocast_keeps_tangents(name: str) -> None:
    values, tangents, public, bare, plain = _problem(name, "batched")
    wide, wide_tangents = ({key: x.float() for key, x in given.items()} for given in (values, tangents))
    _, wanted = jvp(plain, (values,), (tangents,))
    for function in (public, bare):
        with torch.autocast("cpu", torch.bfloat16):
            _, got = _dual_run(function, wide, wide_tangents)
            _, under_jvp = jvp(function, (wide,), (wide_tangents,))
        _close([t.double() for t in got], [*wanted], 0.1)
        _close([t.double() for t in under_jvp], [*wanted], 0.1)


@pytest.mark.parametrize("name", ["scan", "scan_with_final", "bdlru", "causal_conv1d"])
def test_a_compiled_jvp_equals_the_eager_one(name: str) -> None:
    torch._dynamo.reset()
    values, tangents, public, _, plain = _problem(name, "batched")
    keys = list(values)

    def run(given: list[Tensor], moved: list[Tensor]) -> Any:
        def function(*x: Tensor) -> Any:
            return public(dict(zip(keys, x, strict=True)))

        return jvp(function, tuple(given), tuple(moved))

    got = torch.compile(run, backend="aot_eager")([*values.values()], [*tangents.values()])
    _close(got, jvp(plain, (values,), (tangents,)))


@pytest.mark.parametrize("name", ["scan", "scan_with_final", "bdlru", "causal_conv1d"])
def test_a_compiled_function_may_have_a_level_inside_or_outside(name: str) -> None:
    torch._dynamo.reset()
    values, tangents, public, _, plain = _problem(name, "batched")
    keys = list(values)

    def inside(given: list[Tensor], moved: list[Tensor]) -> list[Any]:
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(x, t) for x, t in zip(given, moved, strict=True)]
            outputs = public(dict(zip(keys, duals, strict=True)))
            return [forward_ad.unpack_dual(out).tangent for out in outputs]

    wanted = jvp(plain, (values,), (tangents,))[1]
    compiled = torch.compile(inside, backend="aot_eager", fullgraph=True)
    _close(compiled([*values.values()], [*tangents.values()]), [*wanted])
    outside = torch.compile(public, backend="aot_eager")
    _close(_dual_run(outside, values, tangents)[1], [*wanted])


def _layers() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    return {
        "BDLRU": recblr.BDLRU(4),
        "BDLRU with epsilon": recblr.BDLRU(4, beta_epsilon=1e-3),
        "CausalConv1d": recblr.CausalConv1d(4),
        "HistoryAverage": HistoryAverage(4),
        "RecBLRLayer": recblr.RecBLRLayer(4, dropout=0.0),
    }


@pytest.fixture(params=_layers())
def layer(request: pytest.FixtureRequest) -> nn.Module:
    return _layers()[request.param].double().requires_grad_(False)


def _first_output(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]


def _slope(function: Callable[[float], Tensor], step: float = 1e-5) -> Tensor:
    """The derivative at 0 by central differences."""
    return (function(step) - function(-step)) / (2 * step)


@pytest.mark.parametrize("training", [False, True])
def test_a_frozen_layer_with_a_dual_input(layer: nn.Module, training: bool) -> None:
    layer.train(training)
    x, t = torch.rand(2, 2, 5, 4, dtype=DOUBLE)
    with forward_ad.dual_level():
        out = _first_output(layer(forward_ad.make_dual(x, t)))
        got = forward_ad.unpack_dual(out).tangent
    wanted = _slope(lambda step: _first_output(layer(x + step * t)))
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-7)
    _, under_jvp = jvp(lambda x: _first_output(layer(x)), (x,), (t,))
    torch.testing.assert_close(under_jvp, wanted, rtol=1e-6, atol=1e-7)


def test_a_frozen_layer_with_a_dual_parameter(layer: nn.Module) -> None:
    x = torch.rand(5, 4, dtype=DOUBLE)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    offsets = torch.tensor([0, 2, 5])

    def run(changed: Values) -> Tensor:
        return _first_output(functional_call(layer, {**parameters, **changed}, (x,), {"offsets": offsets}))

    for name, value in parameters.items():
        t = torch.rand_like(value)
        with forward_ad.dual_level():
            got = forward_ad.unpack_dual(run({name: forward_ad.make_dual(value, t)})).tangent
        wanted = _slope(lambda step, n=name, v=value, t=t: run({n: v + step * t}))
        assert wanted.any(), name
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-7)
        _, under_jvp = jvp(lambda v, n=name: run({n: v}), (value,), (t,))
        torch.testing.assert_close(under_jvp, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [recblr.RecBLRLayer, recblr.GatedRecurrentLayer])
def test_a_hessian_vector_product_of_a_layer(kind: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(1)
    layer = kind(4).double().eval()
    x = torch.rand(2, 5, 4, dtype=DOUBLE)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    direction = {name: torch.rand_like(p) for name, p in parameters.items()}

    def loss(parameters: Values) -> Tensor:
        return _first_output(functional_call(layer, parameters, (x,))).sin().sum()

    got = jvp(grad(loss), (parameters,), (direction,))[1]

    def gradient(step: float, name: str) -> Tensor:
        moved = {n: (p + step * direction[n]).requires_grad_() for n, p in parameters.items()}
        return torch.autograd.grad(loss(moved), moved[name])[0]

    for name, value in got.items():
        wanted = _slope(lambda step, n=name: gradient(step, n))
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)
    if kind is recblr.GatedRecurrentLayer:
        # Not RecBLRLayer: the tangent of torch's LayerNorm has a wrong gradient (pytorch #196700).
        _close(grad(_along(loss, direction))(parameters), got)


def _loss_problem(with_repeats: bool, smoothing: float) -> tuple[Values, Values, Function, Function]:
    """Values, tangents, our loss and the plain one."""
    random = torch.Generator().manual_seed(1)
    sizes = {"hidden": (5, 3), "weight": (7, 3), "bias": ()}
    values, tangents = (
        {name: torch.randn(size, generator=random, dtype=DOUBLE) for name, size in sizes.items()}
        for _ in "vt"
    )
    targets = torch.tensor([0, 6, 2, 2, 5])
    items, offsets = torch.tensor([1, 1, 2, 5, 5]), torch.tensor([0, 3, 5])
    seen = torch.zeros(5, 7, dtype=DOUBLE)
    for row, held in enumerate([[1], [1], [1, 2], [5], [5]]):
        seen[row, held] = 1

    def ours(given: Values) -> Tensor:
        repeats = Repeats(given["bias"], items, offsets) if with_repeats else None
        return linear_cross_entropy(given["hidden"], given["weight"], targets, repeats, smoothing)

    def plain(given: Values) -> Tensor:
        logits = given["hidden"] @ given["weight"].T
        smoothed = logits - logits.logsumexp(1, keepdim=True)
        logits = logits + with_repeats * given["bias"] * seen
        exact = F.cross_entropy(logits, targets)
        change = smoothed.gather(1, targets.unsqueeze(1)).mean() - smoothed.mean()
        return exact + smoothing * change

    return values, tangents, ours, plain


@pytest.mark.parametrize("with_repeats", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_cross_entropy_has_tangents(with_repeats: bool, smoothing: float) -> None:
    values, tangents, ours, plain = _loss_problem(with_repeats, smoothing)
    if not with_repeats:
        values.pop("bias"), tangents.pop("bias")
        plain_with_zero = plain
        plain = lambda given: plain_with_zero({**given, "bias": torch.zeros((), dtype=DOUBLE)})  # noqa: E731
    wanted = jvp(plain, (values,), (tangents,))
    for subset in _subsets(list(values)):
        chosen = {name: tangents[name] for name in subset}
        zeros = {name: torch.zeros_like(x) for name, x in values.items()}
        _, got = _dual_run(lambda given: (ours(given),), values, chosen)
        _close(got[0], jvp(plain, (values,), ({**zeros, **chosen},))[1])
    _close(jvp(ours, (values,), (tangents,)), wanted)
    _close(_along(grad(ours), tangents)(values), _along(grad(plain), tangents)(values))
    _close(grad(_along(ours, tangents))(values), grad(_along(plain, tangents))(values))
    leaves = {name: x.clone().requires_grad_() for name, x in values.items()}
    with forward_ad.dual_level():
        given = {name: forward_ad.make_dual(x, tangents[name]) for name, x in leaves.items()}
        gradient = torch.autograd.grad(ours(given), [*given.values()], create_graph=True)
        got = {name: forward_ad.unpack_dual(g).tangent for name, g in zip(given, gradient, strict=True)}
    _close(got, _along(grad(plain), tangents)(values))


def test_the_compiled_cross_entropy_has_tangents() -> None:
    torch._dynamo.reset()
    values, tangents, ours, plain = _loss_problem(False, 0.0)

    def inside(given: Values, moved: Values) -> Any:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(
                ours({name: forward_ad.make_dual(x, moved[name]) for name, x in given.items()})
            ).tangent

    wanted = jvp(plain, (values,), (tangents,))
    _close(torch.compile(inside, backend="aot_eager")(values, tangents), wanted[1])
    compiled = torch.compile(lambda v, t: jvp(ours, (v,), (t,)), backend="aot_eager")
    _close(compiled(values, tangents), wanted)


def test_the_cross_entropy_refuses_wrong_targets_in_forward_mode_too() -> None:
    hidden, weight = torch.rand(2, 3), torch.rand(4, 3)
    for wrong, words in (([-100, 0], "targets must lie in 0..3"), ([1], r"targets must have shape \(2,\)")):
        loss = partial(linear_cross_entropy, weight=weight, targets=torch.tensor(wrong))
        with pytest.raises(ValueError, match=words):
            jvp(loss, (hidden,), (hidden,))


@pytest.mark.parametrize("needs_grad", [False, True])
def test_dropout_drops_the_same_elements_of_the_tangent(needs_grad: bool) -> None:
    x, t = torch.rand(9, 8) + 1, torch.rand(9, 8) + 1
    layer = Dropout(0.5)
    with forward_ad.dual_level():
        primal, tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x.requires_grad_(needs_grad), t)))
    assert 0 < (primal == 0).sum() < primal.numel()
    _close(tangent, torch.where(primal == 0, 0, 2 * t))
    primal, tangent = jvp(layer, (x.detach(),), (t,))
    _close(tangent, torch.where(primal == 0, 0, 2 * t))
