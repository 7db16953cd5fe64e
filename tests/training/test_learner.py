"""A step of training: Adam, weight decay, clipping, the moving average, and lower precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from training.tiny_runs import tiny_config

from recblr.data import Batch
from recblr.nn import RecBLRConfig
from recblr.nn.losses import linear_cross_entropy
from recblr.training.learner import Learner

ITEMS = 11
MODEL = RecBLRConfig(d_model=8, num_layers=1, dropout=0.0)
BATCH = Batch(np.array([1, 2, 3, 5, 7]), np.array([2, 3, 4, 7, 9]), np.array([0, 3, 5]))


def new_learner(**changes: Any) -> Learner:
    return Learner(ITEMS, tiny_config(**{"model": MODEL, **changes}), linear_cross_entropy)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def steps(learner: Learner, count: int = 3, rate: float = 0.01) -> list[float]:
    return [learner.step(BATCH, rate, number).item() for number in range(count)]


def test_without_decay_it_is_adam_bit_for_bit() -> None:
    learner, plain = new_learner(), new_learner()
    adam = torch.optim.Adam(plain.model.parameters(), lr=0.01, fused=True)
    plain.optimizer = adam  # type: ignore[assignment]
    assert steps(learner) == steps(plain)
    for name, weight in weights(learner.model).items():
        assert torch.equal(weight, weights(plain.model)[name]), name


def test_matrices_decay_but_embeddings_norms_biases_and_lambda_do_not() -> None:
    decayed, plain = new_learner(weight_decay=0.5), new_learner()
    before = weights(plain.model)
    steps(decayed, 1)
    steps(plain, 1)
    after = weights(plain.model)
    for name, weight in weights(decayed.model).items():
        # The decay does not depend on the gradient, so it is the only difference after the first step.
        shrunk = name in {
            "layers.0.recurrent.input.weight",
            "layers.0.recurrent.conv1d.weight",
            "layers.0.recurrent.bdlru.gates.weight",
            "layers.0.recurrent.output.weight",
            "layers.0.ffn.w_1.weight",
            "layers.0.ffn.w_2.weight",
        }
        expected = after[name] - (0.01 * 0.5 * before[name] if shrunk else 0)
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-7, msg=name)


def test_every_parameter_is_trained() -> None:
    learner = new_learner()
    before = weights(learner.model)
    steps(learner)
    for name, weight in weights(learner.model).items():
        assert not torch.equal(weight, before[name]), name


def test_gradients_beyond_the_norm_are_scaled_down_to_it() -> None:
    free, clipped, wide = new_learner(), new_learner(clip_norm=0.01), new_learner(clip_norm=1e9)
    for learner in (free, clipped, wide):
        steps(learner, 1)
    gradients = {
        name: torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None])
        for name, learner in (("free", free), ("clipped", clipped), ("wide", wide))
    }
    assert gradients["free"].norm() > 0.02
    torch.testing.assert_close(gradients["clipped"], gradients["free"] * (0.01 / gradients["free"].norm()))
    assert torch.equal(gradients["wide"], gradients["free"])


def test_the_average_follows_its_formula() -> None:
    learner = new_learner(ema=0.3)
    expected = {name: weight.double() for name, weight in weights(learner.model).items()}
    for n in range(6):
        steps(learner, 1)
        decay = min(0.3, (1 + n) / (10 + n)) if n else 0.0  # the first step replaces the average
        for name, weight in weights(learner.model).items():
            expected[name] = decay * expected[name] + (1 - decay) * weight.double()
    for name, weight in weights(learner.kept).items():
        torch.testing.assert_close(weight.double(), expected[name], rtol=0, atol=1e-6, msg=name)
    assert not torch.equal(learner.kept.item_embedding.weight, learner.model.item_embedding.weight)


def test_the_average_does_not_affect_the_training() -> None:
    assert steps(new_learner(ema=0.9)) == steps(new_learner())


def test_without_an_average_the_trained_model_is_saved() -> None:
    learner = new_learner()
    assert learner.kept is learner.model


def test_random_numbers_depend_on_the_seed_and_the_step_alone() -> None:
    model = RecBLRConfig(d_model=8, num_layers=1, dropout=0.5)
    one, two, other = (new_learner(model=model, seed=seed) for seed in (1, 1, 2))
    first = one.step(BATCH, 1e-30, 1, 7)
    torch.manual_seed(99)
    torch.rand(5)
    assert two.step(BATCH, 1e-30, 1, 7) == first
    assert two.step(BATCH, 1e-30, 1, 8) != first
    assert two.step(BATCH, 1e-30, 2, 7) != first
    assert other.step(BATCH, 1e-30, 1, 7) != first


def test_in_bfloat16_it_learns_nearly_the_same_with_weights_in_float32() -> None:
    exact, rough = new_learner(), new_learner(precision="bfloat16")
    expected, found = steps(exact, 20), steps(rough, 20)
    assert found != expected
    assert found == pytest.approx(expected, rel=0.02)
    assert found[-1] < found[0] - 0.1
    assert {p.dtype for p in rough.model.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in rough.model.parameters() if p.grad is not None} == {torch.float32}


def test_bfloat16_leaves_states_and_decay_in_float32() -> None:
    # A decay factor of 0.9995 is 1 in bfloat16, so a state would never decrease.
    model = new_learner(precision="bfloat16").model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.layers[0].recurrent.bdlru.Lambda.fill_(math.log(math.expm1(-math.log(0.9995))))
        model.layers[0].recurrent.bdlru.gates.weight.zero_()
        model.layers[0].recurrent.bdlru.gates.bias.fill_(20)  # r = i = 1
        _, (before,) = model.with_state(torch.tensor([[1, 2, 3]]))
        _, (after,) = model.with_state(torch.zeros(1, 2000, dtype=torch.long), state=(before,))
        _, (other,) = model.with_state(
            torch.zeros(1, 2000, dtype=torch.long), state=(before._replace(hidden=0 * before.hidden),)
        )
    assert before.hidden.dtype == torch.float32
    faded = (after.hidden - other.hidden) / before.hidden
    torch.testing.assert_close(faded, torch.full_like(faded, 0.9995**2000), rtol=0.02, atol=0)
