"""The options of the released code, alone and together, compared with a second version of that code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.released import Differences, ReleasedRecBLR, with_large_weights

from recblr.integrations.released import adopt_released, released_name
from recblr.nn import BDLRU, GatedRecurrentLayer, RecBLR, RecBLRConfig, RecBLRLayer

N_ITEMS, WIDTH, LENGTH = 13, 6, 11  # the items include [PAD]; 5 steps pad 11 to 16

NONE = Differences(padding=False, epsilon=False, ffn_dropout=False)
SWITCHES: dict[str, tuple[Differences, dict[str, Any]]] = {
    "none": (NONE, {}),
    "padding": (Differences(epsilon=False, ffn_dropout=False), {"padding_leak": True, "max_length": LENGTH}),
    "epsilon": (Differences(padding=False, ffn_dropout=False), {"beta_epsilon": 1e-8}),
    "all": (Differences(), {"padding_leak": True, "max_length": LENGTH, "beta_epsilon": 1e-8}),
}


def pair(differences: Differences, layers: int = 2, **options: Any) -> tuple[ReleasedRecBLR, RecBLR]:
    """The released model and our model, with the same weights, in float64 and evaluation mode."""
    theirs = ReleasedRecBLR(N_ITEMS, WIDTH, layers, differences=differences)
    theirs = with_large_weights(theirs.double()).eval()
    config = RecBLRConfig(d_model=WIDTH, num_layers=layers, history_average=False, **options)
    ours = RecBLR(N_ITEMS - 1, config).double().eval()
    adopt_released(ours, theirs.state_dict())
    return theirs, ours


def histories(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Items (B, LENGTH), padded on the right with 0 as RecBole does, and lengths (B,)."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, N_ITEMS, (len(lengths), LENGTH), generator=generator)
    return items.masked_fill(torch.arange(LENGTH) >= torch.tensor(lengths)[:, None], 0), torch.tensor(lengths)


def last_hidden(ours: RecBLR, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return ours(items - 1, lengths=lengths)[torch.arange(len(items)), lengths - 1]


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("switch", SWITCHES)
@settings(max_examples=8)
@given(st.lists(st.integers(1, LENGTH), min_size=1, max_size=4), st.integers(0, 99))
def test_scores_and_gradients_equal_those_of_the_released_code(
    switch: str, lengths: list[int], seed: int
) -> None:
    differences, options = SWITCHES[switch]
    theirs, ours = pair(differences, **options)
    items, item_seq_len = histories(lengths, seed)
    targets = torch.randint(1, N_ITEMS, (len(lengths),), generator=torch.Generator().manual_seed(seed))

    expected = theirs.full_sort_predict(items, item_seq_len)[:, 1:]
    scores = ours.scores(last_hidden(ours, items, item_seq_len))
    close(scores, expected)

    F.cross_entropy(expected, targets - 1).backward()
    F.cross_entropy(scores, targets - 1).backward()
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        gradient = wanted[released_name(name)]
        assert gradient is not None
        gradient = gradient[1:] if name.startswith("item_embedding") else gradient
        close(parameter.grad, gradient.reshape(parameter.shape))


@pytest.mark.parametrize("switch", ["padding", "epsilon"])
def test_each_switch_makes_a_difference(switch: str) -> None:
    plain, _ = pair(NONE)
    theirs, _ = pair(SWITCHES[switch][0])
    batch = histories([3, LENGTH])
    assert (plain(*batch) - theirs(*batch)).abs().max() > 1e-9


@pytest.mark.parametrize("ffn_dropout", [None, 0.2, 0.0])
def test_dropout_is_at_the_places_of_the_released_code(ffn_dropout: float | None) -> None:
    # For histories of full length, both models draw the same random numbers, in the same order.
    theirs, ours = pair(
        Differences(ffn_dropout=ffn_dropout != 0),
        dropout=0.2,
        ffn_dropout=ffn_dropout,
        **SWITCHES["all"][1],
    )
    theirs.train()
    ours.train()
    items, lengths = histories([LENGTH] * 3)
    torch.manual_seed(3)
    expected = theirs(items, lengths)
    torch.manual_seed(3)
    close(ours(items - 1)[:, -1], expected)
    expected.sum().backward()
    torch.manual_seed(3)
    ours(items - 1)[:, -1].sum().backward()
    close(ours.layers[0].ffn.w_1.weight.grad, theirs.recurrent_layers[0].ffn.w_1.weight.grad)


def test_feed_forward_dropout_is_off_in_evaluation() -> None:
    layer = RecBLRLayer(WIDTH, ffn_dropout=0.9)
    x = torch.randn(2, 5, WIDTH)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_lambda_is_spaced_as_in_the_released_code() -> None:
    theirs = ReleasedRecBLR(N_ITEMS, 64).recurrent_layers[0].behavior_modeling.Lambda
    ours = RecBLR(5, RecBLRConfig.released(50)).layers[0].recurrent.bdlru.Lambda
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    alpha = torch.exp(-F.softplus(ours))
    torch.testing.assert_close(alpha[[0, -1]], torch.tensor([0.9, 0.999]), rtol=1e-5, atol=1e-5)
    assert alpha.median().item() == pytest.approx(0.990, abs=1e-3)


@pytest.mark.parametrize("split", [0, 1, 4, LENGTH])
def test_streaming_starts_in_the_leaked_state_too(split: int) -> None:
    _, ours = pair(*SWITCHES["all"][:1], **SWITCHES["all"][1])
    items = histories([LENGTH, LENGTH])[0] - 1
    whole, end = ours.with_state(items)
    # With an empty first part, and without a first part, the state is the one that the padding leaves.
    first, state = ours.with_state(items[:, :split])
    close(first, whole[:, :split])
    for t in range(split, LENGTH):
        hidden, state = ours.step(items[:, t], state)
        close(hidden, whole[:, t])
    for layer, layer_end in zip(state, end, strict=True):
        close(layer.hidden, layer_end.hidden)
        close(layer.conv, layer_end.conv)
    close(ours.step(items[:, 0])[0], whole[:, 0])


def test_packed_histories_start_in_the_leaked_state_too() -> None:
    _, ours = pair(SWITCHES["all"][0], **SWITCHES["all"][1])
    parts = [torch.randint(N_ITEMS - 1, (n,)) for n in (4, 0, 1, 9)]
    offsets = torch.tensor([0, 4, 4, 5, 14])
    hidden, state = ours.with_state(torch.cat(parts), offsets=offsets)
    close(hidden, torch.cat([ours(part.unsqueeze(0))[0] for part in parts if len(part)]))
    nothing = ours.with_state(torch.empty(1, 0, dtype=torch.long))[1]
    for layer, empty in zip(state, nothing, strict=True):
        close(layer.hidden[1:2], empty.hidden)
        assert empty.hidden.abs().max() > 1e-3


def test_a_sequence_without_a_batch_starts_in_the_leaked_state_too() -> None:
    layer = GatedRecurrentLayer(WIDTH, padding_steps=5).double()
    x = torch.randn(4, WIDTH, dtype=torch.float64)
    close(layer(x)[0], layer(x.unsqueeze(0))[0][0])


def test_nothing_leaks_if_the_length_is_a_power_of_two() -> None:
    assert [RecBLRConfig.released(n).padding_steps for n in (1, 2, 50, 200, 256, 257)] == [
        0,
        0,
        14,
        56,
        0,
        255,
    ]
    assert RecBLRConfig(max_length=200).padding_steps == 0
    items = torch.randint(9, (2, 5))
    torch.manual_seed(0)
    plain = RecBLR(9, RecBLRConfig(d_model=8, max_length=16)).eval()
    leaky = RecBLR(9, RecBLRConfig(d_model=8, max_length=16, padding_leak=True)).eval()
    leaky.load_state_dict(plain.state_dict())
    assert torch.equal(plain(items), leaky(items))


def test_released_sets_its_options_and_accepts_the_others() -> None:
    config = RecBLRConfig.released(200, d_model=32, dropout=0.4)
    assert config == RecBLRConfig(
        d_model=32,
        dropout=0.4,
        max_length=200,
        padding_leak=True,
        beta_epsilon=1e-8,
        lambda_init="linspace",
        history_average=False,
        time="none",
    )
    assert RecBLRConfig.released(200, lambda_init="uniform").lambda_init == "uniform"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_options_run_in_half_precision(dtype: torch.dtype) -> None:
    model = RecBLR(9, RecBLRConfig.released(5, d_model=8)).eval()
    items = torch.randint(9, (2, 5))
    expected = model(items)
    hidden, state = model.to(dtype).with_state(items)
    assert hidden.dtype == dtype
    assert state[0].hidden.dtype == torch.float32
    torch.testing.assert_close(hidden.float(), expected, rtol=0.05, atol=0.05)


def test_the_options_compile() -> None:
    layer = RecBLRLayer(8, padding_steps=3, beta_epsilon=1e-8, ffn_dropout=0.1).eval()
    x = torch.randn(2, 6, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_length": 0}, "max_length must be at least 1, but is 0"),
        ({"padding_leak": True}, "padding_leak must come with max_length"),
        ({"beta_epsilon": -1e-8}, "beta_epsilon must be 0 or a positive number, but is -1e-08"),
        ({"beta_epsilon": float("nan")}, "beta_epsilon must be 0 or a positive number"),
        ({"lambda_init": "random"}, "lambda_init must be uniform or linspace, but is 'random'"),
        ({"ffn_dropout": 1.0}, r"ffn_dropout must lie in \[0, 1\), but is 1.0"),
    ],
)
def test_wrong_options_are_named(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecBLRConfig(**option)


def test_wrong_options_of_layers_are_named() -> None:
    with pytest.raises(ValueError, match="padding_steps must not be negative, but is -1"):
        GatedRecurrentLayer(4, padding_steps=-1)
    with pytest.raises(ValueError, match="beta_epsilon must be 0 or a positive number, but is inf"):
        BDLRU(4, beta_epsilon=float("inf"))
    with pytest.raises(ValueError, match="lambda_init must be uniform or linspace, but is 'log'"):
        BDLRU(4, lambda_init="log")  # type: ignore[arg-type]


def test_epsilon_keeps_the_scale_of_the_decay() -> None:
    torch.manual_seed(0)
    plain, released = BDLRU(8).double(), BDLRU(8, beta_epsilon=1e-12).double()
    released.load_state_dict(plain.state_dict())
    x, scale = torch.randn(2, 9, 8, dtype=torch.float64), 3 * torch.rand(2, 9, 1, dtype=torch.float64)
    for factor in (None, scale):
        (ours, state), (theirs, other) = released(x, scale=factor), plain(x, scale=factor)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(state, other, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(released(x, scale=scale)[0], released(x)[0])
