"""Layers: steps equal the whole pass, padding never leaks, and shapes and initial values are the paper's."""

import inspect
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.layers import assert_gradients_close, gradients_of_a_layer
from torch import nn

import recblr
from recblr.nn import (
    BDLRU,
    CausalConv1d,
    GatedRecurrentLayer,
    HistoryAverage,
    LayerConfig,
    RecBLR,
    RecBLRConfig,
    RecBLRLayer,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def tiny_model(dropout=0.0, num_layers=2):
    model = RecBLR(11, RecBLRConfig(d_model=8, num_layers=num_layers, dropout=dropout)).eval()
    with torch.no_grad():  # larger than at the start of training, so that every path matters
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "conv" not in name:
                parameter.normal_(std=0.4)
    return model


def test_the_package_exports_its_names():
    for name in recblr.__all__:
        assert getattr(recblr, name) is not None


def plain_layer(layer, x):
    """RecBLRLayer on one sequence (T, D), written from the paper's formulas and serial in time."""
    recurrent = layer.recurrent
    xs, zs = recurrent.input(x).chunk(2, -1)
    padded = torch.cat([torch.zeros(recurrent.conv1d.kernel_size - 1, xs.shape[1]), xs])
    state = torch.zeros(xs.shape[1])
    decay = F.softplus(recurrent.bdlru.Lambda)
    out = []
    for t in range(x.shape[0]):
        window = padded[t : t + recurrent.conv1d.kernel_size]
        v = F.silu((window * recurrent.conv1d.weight.T).sum(0) + recurrent.conv1d.bias)
        r, i = torch.sigmoid(recurrent.bdlru.gates(v)).chunk(2)
        alpha = torch.exp(-decay * r)
        state = alpha * state + torch.sqrt(1 - alpha**2) * i * v
        out.append(recurrent.output(state * F.silu(zs[t])))
    u = layer.layer_norm(torch.stack(out) + x)
    return layer.ffn_norm(layer.ffn.w_2(F.silu(layer.ffn.w_1(u))) + u)


def test_the_layer_takes_the_fields_of_its_config():
    """The options of RecBLRLayer and the fields of LayerConfig have the same names and defaults."""
    of_config = inspect.signature(LayerConfig).parameters.values()
    of_layer = inspect.signature(RecBLRLayer).parameters.values()
    assert [(p.name, p.default, p.kind) for p in of_layer] == [(p.name, p.default, p.kind) for p in of_config]


def test_a_layer_and_the_layers_of_a_model_have_the_same_defaults():
    """Only dropout differs: a layer has none unless it is given."""
    defaults = RecBLRConfig()
    layer = LayerConfig(defaults.d_model)
    assert replace(defaults.layer(), dropout=layer.dropout, ffn_dropout=layer.ffn_dropout) == layer
    for alone in (RecBLRLayer(8).recurrent, GatedRecurrentLayer(8)):
        of_model = RecBLR(3, RecBLRConfig(d_model=8)).layers[0].recurrent
        assert isinstance(alone.average, HistoryAverage)
        assert alone.state_dict().keys() == of_model.state_dict().keys()


def test_the_layers_of_a_model_follow_its_config():
    config = RecBLRConfig(
        d_model=6, expand=3.0, d_conv=5, dropout=0.3, max_length=11, padding_leak=True, beta_epsilon=1e-8,
        lambda_init="linspace", history_average=False,
    )  # fmt: skip
    assert config.layer() == LayerConfig(
        6, 3.0, 5, 0.3, ffn_dropout=0.3, padding_steps=5, beta_epsilon=1e-8, lambda_init="linspace",
        history_average=False,
    )  # fmt: skip
    assert replace(config, ffn_dropout=0.0, history_average=True).layer().ffn_dropout == 0.0
    for layer in RecBLR(3, config).layers:
        assert (layer.dropout.p, layer.output_dropout.p, layer.ffn.dropout.p) == (0.3, 0.3, 0.3)
        gated = layer.recurrent
        assert (gated.d_inner, gated.conv1d.kernel_size, gated.padding_steps) == (18, 5, 5)
        assert (gated.bdlru.beta_epsilon, gated.bdlru.lambda_init) == (1e-8, "linspace")
        assert gated.average is None


def test_the_gated_layer_takes_a_config_or_its_fields():
    by_config = GatedRecurrentLayer(LayerConfig(4, 3, padding_steps=2), history_average=False)
    by_fields = GatedRecurrentLayer(4, 3, padding_steps=2, history_average=False)
    for layer in (by_config, by_fields):
        assert (layer.d_model, layer.d_inner, layer.padding_steps) == (4, 12, 2)
        assert layer.average is None
    with pytest.raises(TypeError):
        GatedRecurrentLayer(LayerConfig(4), 3)
    with pytest.raises(TypeError, match="width"):
        GatedRecurrentLayer(4, width=3)
    for field in ("dropout", "ffn_expand", "ffn_dropout"):
        with pytest.raises(TypeError, match=f"has no {field}: use RecBLRLayer"):
            GatedRecurrentLayer(4, **{field: 0.5})


def test_the_layer_equals_the_formulas_of_the_paper():
    layer = RecBLRLayer(6, dropout=0.3, history_average=False).eval().double()
    with torch.no_grad():
        layer.recurrent.bdlru.gates.weight.normal_()
    x = torch.randn(3, 9, 6, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        expected = torch.stack([plain_layer(layer, sequence) for sequence in x])
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


def test_the_layer_adds_an_average_of_its_inputs():
    plain = RecBLRLayer(6, history_average=False).eval().double()
    layer = RecBLRLayer(6).eval().double()
    layer.load_state_dict(plain.state_dict(), strict=False)
    average = layer.recurrent.average
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    expected = plain.recurrent(x)[0] + average(x)[0]
    torch.testing.assert_close(layer.recurrent(x)[0], expected, rtol=1e-12, atol=1e-12)
    assert (average(x)[0].abs() > 1e-3).all()
    # With 16-bit inputs, the average runs in float32.  In 16 bits, 0.999 would be 1 and the average of ones
    # 0.
    with torch.no_grad():
        average.decay.fill_(7.0)
        average.weight.fill_(1.0)
    ones, state = average.bfloat16()(torch.ones(1, 4000, 6, dtype=torch.bfloat16))
    assert state.dtype == torch.float32
    assert ones.dtype == torch.bfloat16
    assert 0.9 < ones[0, -1, 0] < 1


def test_with_a_decay_that_rounds_to_one_new_inputs_still_count():
    average = HistoryAverage(2)
    with torch.no_grad():
        average.decay.fill_(20.0)
    expected = torch.full((1, 2), math.exp(-20))
    torch.testing.assert_close(average(torch.ones(1, 1, 2))[1], expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("has", [True, False])
def test_a_state_does_not_fit_if_only_one_layer_has_an_average(has):
    x = torch.randn(2, 3, 4)
    _, other = GatedRecurrentLayer(4, history_average=not has)(x)
    which = "a history average" if has else "no history average"
    with pytest.raises(ValueError, match=f"this layer has {which}"):
        GatedRecurrentLayer(4, history_average=has)(x, state=other)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.booleans())
def test_the_average_equals_its_recurrence(lengths, with_state):
    average = HistoryAverage(3).double()
    with torch.no_grad():
        average.decay.normal_()
        average.weight.normal_()
    x = torch.randn(sum(lengths), 3, dtype=torch.float64)
    initial = torch.randn(len(lengths), 3, dtype=torch.float64) if with_state else None
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    out, final = average(x, initial=initial, offsets=offsets)
    kept = torch.sigmoid(average.decay)
    for s in range(len(lengths)):
        m = torch.zeros(3, dtype=torch.float64) if initial is None else initial[s]
        for t in range(int(offsets[s]), int(offsets[s + 1])):
            m = kept * m + (1 - kept) * x[t]
            torch.testing.assert_close(out[t], average.weight * m, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(final[s], m, rtol=1e-12, atol=1e-12)


@settings(max_examples=25)
@given(st.data())
def test_every_split_of_a_history_into_chunks_gives_the_same(data):
    model = tiny_model()
    length = data.draw(st.integers(1, 14), label="length")
    cuts = data.draw(st.lists(st.integers(0, length), max_size=5).map(sorted), label="cuts")
    items = torch.randint(11, (3, length))
    whole, end = model.with_state(items)
    state, parts = None, []
    for start, stop in zip([0, *cuts], [*cuts, length], strict=True):
        hidden, state = model.with_state(items[:, start:stop], state=state)
        parts.append(hidden)
    close(torch.cat(parts, 1), whole)
    for layer_state, layer_end in zip(state, end, strict=True):
        close(layer_state.conv, layer_end.conv)
        close(layer_state.hidden, layer_end.hidden)
        close(layer_state.average, layer_end.average)


@settings(max_examples=15)
@given(st.integers(1, 12), st.integers(0, 12))
def test_one_event_at_a_time_equals_the_whole_pass(length, switch):
    # The first events run in one pass, and the other events run one by one.
    model = tiny_model()
    items = torch.randint(11, (2, length))
    whole = model(items)
    switch = min(switch, length)
    first, state = model.with_state(items[:, :switch])
    close(first, whole[:, :switch])
    for t in range(switch, length):
        hidden, state = model.step(items[:, t], state)
        close(hidden, whole[:, t])


@pytest.mark.parametrize(
    "layer",
    [
        BDLRU(5),
        CausalConv1d(5, 4),
        CausalConv1d(5, 1),
        HistoryAverage(5),
        GatedRecurrentLayer(5),
        GatedRecurrentLayer(5, history_average=False),
        RecBLRLayer(5),
        RecBLRLayer(5, history_average=False),
    ],
)
def test_the_steps_of_every_layer_equal_its_whole_pass(layer):
    layer.eval()
    x = torch.randn(2, 6, 5)
    out = layer(x)
    whole = out[0] if isinstance(out, tuple) else out
    state = None
    for t in range(6):
        y, state = layer.step(x[:, t], state)
        close(y, whole[:, t])


@settings(max_examples=25)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.booleans())
def test_packed_and_padded_equal_each_history_alone(lengths, with_state):
    model = tiny_model()
    histories = [torch.randint(11, (n,)) for n in lengths]
    state = model.with_state(torch.randint(11, (len(lengths), 3)))[1] if with_state else None

    def state_of(s):
        return None if state is None else tuple(type(x)(*(part[s : s + 1] for part in x)) for x in state)

    alone = [model.with_state(h.unsqueeze(0), state=state_of(s)) for s, h in enumerate(histories)]
    expected = torch.cat([hidden[0] for hidden, _ in alone])

    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    packed, packed_end = model.with_state(torch.cat(histories), offsets=offsets, state=state)
    close(packed, expected)

    padded = nn.utils.rnn.pad_sequence([*histories, torch.zeros(8, dtype=torch.long)], True, 10)[:-1]
    valid = torch.arange(padded.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    hidden, padded_end = model.with_state(padded, lengths=torch.tensor(lengths), state=state)
    close(hidden[valid], expected)
    assert not hidden[~valid].any()
    for ends in (packed_end, padded_end):
        for layer, layer_state in enumerate(ends):
            close(layer_state.hidden, torch.cat([end[layer].hidden for _, end in alone]))
            close(layer_state.conv, torch.cat([end[layer].conv for _, end in alone]))
            close(layer_state.average, torch.cat([end[layer].average for _, end in alone]))


def test_gradients_do_not_pass_padding():
    layer = RecBLRLayer(4)
    x = torch.randn(2, 5, 4, requires_grad=True)
    layer(x, lengths=torch.tensor([2, 5])).sum().backward()
    assert x.grad[0, 2:].abs().sum() == 0


def test_the_model_is_causal():
    model = tiny_model()
    items = torch.randint(11, (1, 8))
    changed = items.clone()
    changed[0, 5] = (items[0, 5] + 1) % 11
    before, after = model(items), model(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_scores_are_products_with_the_item_embedding():
    model = tiny_model()
    hidden = model(torch.randint(11, (2, 3)))
    close(model.scores(hidden), torch.einsum("btd,vd->btv", hidden, model.item_embedding.weight))


def test_lambda_starts_uniform_in_alpha():
    alpha = torch.exp(-F.softplus(BDLRU(6_000).Lambda.detach().double()))
    assert alpha.min() >= 0.9 - 1e-6
    assert alpha.max() <= 0.999 + 1e-6
    deciles = torch.quantile(alpha, torch.linspace(0, 1, 11, dtype=torch.float64))
    torch.testing.assert_close(
        deciles, torch.linspace(0.9, 0.999, 11, dtype=torch.float64), atol=2e-3, rtol=0
    )


def test_weights_start_as_the_paper_says():
    model = RecBLR(3000, RecBLRConfig(d_model=64))
    for weight in (model.item_embedding.weight, model.layers[0].ffn.w_1.weight):
        assert abs(weight.std().item() - 0.02) < 2e-3
    assert not model.layers[0].recurrent.bdlru.gates.bias.any()
    assert model.layers[0].recurrent.input.bias is None
    assert model.layers[0].recurrent.d_inner == 128
    assert model.layers[0].ffn.w_1.out_features == 256


def test_lambda_stays_float32_in_half_precision():
    layer = BDLRU(16)
    exact = layer.Lambda.detach().clone()
    layer.bfloat16()
    assert layer.gates.weight.dtype == torch.bfloat16
    assert torch.equal(layer.Lambda, exact)
    y, final = layer(torch.randn(2, 5, 16, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert final.dtype == torch.float32
    assert layer.double().Lambda.dtype == torch.float64


def test_a_layer_works_in_a_compiled_model():
    layer = RecBLRLayer(8).eval()
    x = torch.randn(2, 6, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    close(compiled(x), layer(x))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([1, 2, 3]), r"lengths must be \(2,\) integers"),
        (torch.tensor([1.0, 2.0]), r"lengths must be \(2,\) integers"),
        (torch.tensor([1, 6]), r"lengths must lie in 0..5"),
        (torch.tensor([-1, 2]), r"lengths must lie in 0..5"),
    ],
)
def test_wrong_lengths_are_named(lengths, message):
    with pytest.raises(ValueError, match=message):
        RecBLRLayer(4)(torch.randn(2, 5, 4), lengths=lengths)


def test_lengths_and_offsets_exclude_each_other():
    with pytest.raises(ValueError, match="give one of them"):
        RecBLRLayer(4)(torch.randn(5, 4), lengths=torch.tensor([5]), offsets=torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="give one of them"):
        RecBLR(5)(torch.tensor([1, 2]), lengths=torch.tensor([2]), offsets=torch.tensor([0, 2]))


@pytest.mark.parametrize(
    "option", [{"d_model": 0}, {"num_layers": 0}, {"dropout": 1.0}, {"expand": 0}, {"d_conv": 0}]
)
def test_wrong_hyper_parameters_are_named(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        RecBLRConfig(**option)


WRONG_INPUTS = {
    "a layer's width": lambda: RecBLRLayer(4)(torch.randn(2, 5, 3)),
    "a packed width": lambda: RecBLRLayer(4)(torch.randn(5, 3), offsets=torch.tensor([0, 5])),
    "the gated layer's width": lambda: GatedRecurrentLayer(4)(torch.randn(2, 5, 8)),
    "the unit's channels": lambda: BDLRU(4)(torch.randn(2, 5, 3)),
    "the convolution's channels": lambda: CausalConv1d(4)(torch.randn(2, 5, 3)),
    "a number": lambda: CausalConv1d(4)(torch.tensor(1.0)),
}


@pytest.mark.parametrize("call", WRONG_INPUTS.values(), ids=WRONG_INPUTS.keys())
def test_an_input_of_another_width_is_named(call):
    with pytest.raises(
        ValueError, match=r"must have a last axis of 4, the layer's \w+, but has shape \(.*\)$"
    ):
        call()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (torch.tensor([[1, 11]]), r"items must lie in 0\.\.10, but range from 1 to 11$"),
        (torch.tensor([[-1, 3]]), r"items must lie in 0\.\.10, but range from -1 to 3$"),
        (torch.tensor([[1.0, 2.0]]), "items must be integers, but are float32"),
        (torch.tensor([[True]]), "items must be integers, but are bool"),
    ],
)
def test_items_outside_the_catalogue_are_named(items, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(items)


def test_a_state_of_another_model_is_named():
    _, state = tiny_model(num_layers=1).step(torch.tensor([1]))
    with pytest.raises(ValueError, match="each of the 2 layers, but holds 1"):
        tiny_model().step(torch.tensor([1]), state)
    _, state = tiny_model().step(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"initial must have shape \(2, 3, 16\), .* but has \(1, 3, 16\)"):
        tiny_model().step(torch.tensor([1, 2]), state)


def test_the_whole_model_compiles_without_a_graph_break():
    model, items = tiny_model(), torch.randint(11, (2, 6))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    close(compiled(items), model(items))


EMPTY = {
    "no sequences": {"x": torch.zeros(0, 5, 4)},
    "no steps": {"x": torch.zeros(2, 0, 4)},
    "lengths of zero": {"x": torch.zeros(2, 5, 4), "lengths": torch.tensor([0, 0])},
    "no sequences, with lengths": {"x": torch.zeros(0, 5, 4), "lengths": torch.zeros(0, dtype=torch.int64)},
    "no steps, with lengths": {"x": torch.zeros(2, 0, 4), "lengths": torch.tensor([0, 0])},
    "no packed sequences": {"x": torch.zeros(0, 4), "offsets": torch.tensor([0])},
    "empty packed sequences": {"x": torch.zeros(0, 4), "offsets": torch.tensor([0, 0, 0], dtype=torch.int32)},
}


@pytest.mark.parametrize("given_", EMPTY.values(), ids=EMPTY.keys())
def test_empty_inputs_give_empty_outputs_and_zero_gradients(given_):
    layer = RecBLRLayer(4)
    x = given_["x"].requires_grad_()
    y, state = layer.with_state(x, **{name: value for name, value in given_.items() if name != "x"})
    assert y.shape == x.shape
    assert not y.any()
    assert not state.hidden.any()
    (y.sum() + state.hidden.sum() + state.conv.sum()).backward()
    assert x.grad is None or not x.grad.any()


@pytest.mark.parametrize(("autocast", "tolerance"), [(False, 1e-3), (True, 0.1)])
def test_the_gradients_of_a_layer_are_close_to_float64(autocast: bool, tolerance: float) -> None:
    """Check the bounds on the CPU, so that the same bounds on a GPU do not compare rounding errors."""
    wanted = gradients_of_a_layer("cpu", torch.float64, autocast=False)
    assert_gradients_close(gradients_of_a_layer("cpu", torch.float32, autocast), wanted, tolerance)
