"""The baselines: packing changes nothing, no event depends on a later one, and every weight learns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recblr.config import GRU4RecConfig, SASRecConfig
from recblr.nn import NextItemModel, RecBLR
from recblr.nn.baselines import GRU4Rec, SASRec, by_length
from recblr.nn.model import build_model

NUM_ITEMS = 11
CONFIGS = {
    "sasrec": SASRecConfig(d_model=8, max_length=20),
    "gru4rec": GRU4RecConfig(d_model=8),
    "gru4rec, one layer": GRU4RecConfig(d_model=8, num_layers=1, expand=1.5),
}
of_every_baseline = pytest.mark.parametrize("name", CONFIGS)


def model_with_large_weights(name: str) -> NextItemModel:
    """A model with larger weights than at the start of training, so that every path matters."""
    torch.manual_seed(0)
    model = build_model(NUM_ITEMS, CONFIGS[name]).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(std=0.4)
    return model


def packed(lengths: list[int]) -> tuple[Tensor, Tensor]:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return torch.randint(NUM_ITEMS, (int(offsets[-1]),)), offsets


@of_every_baseline
@settings(max_examples=25)
@given(lengths=st.lists(st.integers(0, 20), max_size=6))
def test_a_packed_history_gives_what_it_gives_alone(name: str, lengths: list[int]) -> None:
    model = model_with_large_weights(name)
    items, offsets = packed(lengths)
    alone = [model(part, offsets=torch.tensor([0, len(part)])) for part in items.split(lengths)]
    expected = torch.cat(alone) if alone else torch.zeros(0, 8)
    torch.testing.assert_close(model(items, offsets=offsets), expected, rtol=1e-4, atol=1e-5)


@of_every_baseline
def test_an_event_changes_only_later_outputs_of_its_own_history(name: str) -> None:
    model = model_with_large_weights(name)
    items, offsets = packed([9, 3, 17, 16])
    changed = items.clone()
    changed[15] = (items[15] + 1) % NUM_ITEMS  # the fourth event of the third history
    differs = (model(items, offsets=offsets) != model(changed, offsets=offsets)).any(1)
    assert differs.tolist() == [15 <= row < 29 for row in range(45)]


@of_every_baseline
def test_gradients_reach_every_weight_and_no_later_event(name: str) -> None:
    model = model_with_large_weights(name)
    items, offsets = torch.arange(11), torch.tensor([0, 4, 11])
    model(items, offsets=offsets)[1].square().sum().backward()
    gradient = model.item_embedding.weight.grad
    assert gradient is not None
    assert gradient.any(1).tolist() == [item <= 1 for item in range(11)]
    model.zero_grad()
    model.scores(model.train()(items, offsets=offsets)).square().sum().backward()
    for weight, parameter in model.named_parameters():
        assert parameter.grad is not None, weight
        assert parameter.grad.any(), weight


@of_every_baseline
def test_dropout_acts_only_in_training_and_is_repeatable(name: str) -> None:
    model = model_with_large_weights(name)
    items, offsets = packed([9, 3, 12])

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        hidden: Tensor = model(items, offsets=offsets)
        return hidden

    assert torch.equal(run(1), run(2))
    model.train()
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


@of_every_baseline
def test_scores_are_products_with_the_item_embedding(name: str) -> None:
    model = model_with_large_weights(name)
    items, offsets = packed([3, 2])
    hidden = model(items, offsets=offsets)
    expected = torch.einsum("nd,vd->nv", hidden, model.item_embedding.weight)
    torch.testing.assert_close(model.scores(hidden), expected)


@of_every_baseline
@pytest.mark.parametrize(
    ("items", "offsets", "message"),
    [
        ([1, 11], [0, 2], r"items must lie in 0\.\.10, but range from 1 to 11$"),
        ([1.0, 2.0], [0, 2], "items must be integers, but are float32"),
        ([1, 2], [0, 1], "offsets must end with the number of rows 2, but ends with 1"),
        ([1, 2], [0, 2, 1], "offsets must "),
    ],
)
def test_wrong_arguments_are_named(name: str, items: list[float], offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_with_large_weights(name)(torch.tensor(items), offsets=torch.tensor(offsets))


def test_sasrec_refuses_a_history_beyond_its_positions() -> None:
    items, offsets = packed([4, 21])
    with pytest.raises(ValueError, match="a history has 21 events, but the model has learned 20 positions"):
        model_with_large_weights("sasrec")(items, offsets=offsets)


def test_sasrec_depends_on_the_position_of_an_event() -> None:
    hidden = model_with_large_weights("sasrec")(torch.tensor([1, 1, 1]), offsets=torch.tensor([0, 3]))
    assert not torch.allclose(hidden[0], hidden[1])


def test_the_encoder_of_sasrec_runs_over_a_plain_batch_too() -> None:
    model = model_with_large_weights("sasrec")
    assert isinstance(model, SASRec)
    items = torch.randint(NUM_ITEMS, (3, 7))
    dense = model.encoder(model.embed(items) * 8**0.5)
    rows = model(items.flatten(), offsets=torch.arange(0, 22, 7))
    torch.testing.assert_close(dense.flatten(0, 1), rows, rtol=1e-4, atol=1e-5)


def test_the_attention_of_sasrec_equals_the_plain_formula() -> None:
    model = model_with_large_weights("sasrec")
    assert isinstance(model, SASRec)
    attention = model.encoder.blocks[0].attention
    x = torch.randn(6, 8)
    heads = []
    for q, k, v in zip(*(part.split(4, 1) for part in attention.qkv(x).chunk(3, 1)), strict=True):
        logits = (q @ k.T / 4**0.5).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
        heads.append(logits.softmax(1) @ v)
    expected = attention.output(torch.cat(heads, 1))
    torch.testing.assert_close(attention(x.unsqueeze(0))[0], expected, rtol=1e-4, atol=1e-5)


def test_models_have_similar_sizes_at_the_defaults() -> None:
    def parameters_without_items(model: NextItemModel) -> int:
        return sum(p.numel() for p in model.parameters()) - model.item_embedding.weight.numel()

    ours, gru, attention = (parameters_without_items(kind(NUM_ITEMS)) for kind in (RecBLR, GRU4Rec, SASRec))
    assert gru == pytest.approx(ours, rel=0.02)
    assert attention < ours


@given(lengths=st.lists(st.integers(0, 40), max_size=8))
def test_groups_hold_every_row_once_and_in_order_with_little_padding(lengths: list[int]) -> None:
    _, offsets = packed(lengths)
    order, groups = by_length(offsets)
    assert sorted(order.tolist()) == list(range(sum(lengths)))
    places = iter(order.tolist())
    for valid in groups:
        for length in valid.sum(1).tolist():
            rows = [next(places) for _ in range(length)]
            assert rows[0] in offsets[:-1]
            assert rows == list(range(rows[0], rows[0] + length))
            assert length in lengths
            assert valid.shape[1] < 2 * length
    assert next(places, None) is None
