"""The chunked cross entropy has the value and gradients of the plain one, but never holds all logits."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.losses.histories import held_items, some_repeats

from recblr.nn.losses import linear_cross_entropy
from recblr.nn.repeats import Repeats
from recblr.ops import cross_entropy
from recblr.ops.common import native

# Sizes of a catalogue: one block, several blocks of unequal size, and several chunks if there are many rows.
CATALOGUES = st.sampled_from([1, 2, 30, 255, 256, 700, 1023, 1024, 3001, 9000])


def _problem(rows, catalogue, width, spread, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, dtype=dtype, generator=generator).mul_(spread).requires_grad_()
    weight = torch.randn(catalogue, width, dtype=dtype, generator=generator).requires_grad_()
    return hidden, weight, torch.randint(catalogue, (rows,), generator=generator)


def _loss_and_gradients(loss, hidden, weight, targets):
    value = loss(hidden, weight, targets)
    return value, *torch.autograd.grad(2 * value, (hidden, weight))


def _plain(hidden, weight, targets):
    return F.cross_entropy(hidden @ weight.T, targets)


@settings(max_examples=60)
@given(
    rows=st.integers(1, 200), catalogue=CATALOGUES, width=st.integers(1, 20),
    spread=st.sampled_from([0.1, 1.0, 300.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_value_and_gradients_equal_the_plain_loss(rows, catalogue, width, spread, seed):
    problem = _problem(rows, catalogue, width, spread, seed, torch.float64)
    got = _loss_and_gradients(linear_cross_entropy, *problem)
    torch.testing.assert_close(got, _loss_and_gradients(_plain, *problem))


@settings(max_examples=60)
@given(
    rows=st.integers(1, 200), catalogue=CATALOGUES, width=st.integers(1, 9), every_event=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_bias_is_added_for_items_that_a_user_already_has(rows, catalogue, width, every_event, seed):
    hidden, weight, targets = _problem(rows, catalogue, width, 1.0, seed, torch.float64)
    repeats = some_repeats(rows, catalogue, seed, torch.float64, every_event)
    targets[: rows // 2] = repeats.items[: rows // 2]
    got = linear_cross_entropy(hidden, weight, targets, repeats)
    expected = F.cross_entropy(
        hidden @ weight.T + repeats.bias * held_items(repeats, rows, catalogue), targets
    )
    torch.testing.assert_close(got, expected)
    wanted = (hidden, weight, repeats.bias)
    torch.testing.assert_close(torch.autograd.grad(got, wanted), torch.autograd.grad(expected, wanted))


@settings(max_examples=60)
@given(
    rows=st.integers(1, 200), catalogue=CATALOGUES, width=st.integers(1, 9), smoothing=st.floats(0, 1),
    repeating=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_label_smoothing_gives_a_share_of_each_target_to_all_items(
    rows, catalogue, width, smoothing, repeating, seed
):
    hidden, weight, targets = _problem(rows, catalogue, width, 1.0, seed, torch.float64)
    repeats = some_repeats(rows, catalogue, seed, torch.float64, True) if repeating else None
    got = linear_cross_entropy(hidden, weight, targets, repeats, smoothing)
    logits = hidden @ weight.T
    if repeats is None:
        expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    else:  # smoothing uses the logits without the bias
        biased = logits + repeats.bias * held_items(repeats, rows, catalogue)
        wanted = logits.gather(1, targets.unsqueeze(1)).mean()
        expected = F.cross_entropy(biased, targets) + smoothing * (wanted - logits.mean())
    torch.testing.assert_close(got, expected)
    wanted = (hidden, weight) if repeats is None else (hidden, weight, repeats.bias)
    torch.testing.assert_close(torch.autograd.grad(got, wanted), torch.autograd.grad(expected, wanted))


@settings(max_examples=20)
@given(CATALOGUES, st.sampled_from([0.1, 1.0, 30.0]), st.integers(0, 99))
def test_float32_is_close_to_float64(catalogue, spread, seed):
    problem = _problem(150, catalogue, 64, spread, seed, torch.float32)
    exact = _loss_and_gradients(
        _plain, *(x.detach().double().requires_grad_() for x in problem[:2]), problem[2]
    )
    for got, expected in zip(_loss_and_gradients(linear_cross_entropy, *problem), exact, strict=True):
        # With one item, the exact gradients are 0.  The terms that cancel are as large as hidden and weight.
        scale = max(0.1, float(expected.detach().abs().max()))
        assert float((got.double() - expected).detach().abs().max()) <= 2e-5 * scale * max(1, spread)


@pytest.mark.parametrize("repeating", ["no history", "every event", "chosen events"])
@pytest.mark.parametrize("catalogue", [7, 3001])
def test_the_reference_computes_the_same(catalogue, repeating, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS", 1)
    hidden, weight, targets = _problem(150, catalogue, 5, 1.0, 0, torch.float64)
    arguments = [hidden.detach(), weight.detach(), targets, True]
    if repeating != "no history":
        r = some_repeats(150, catalogue, 0, torch.float64, repeating == "every event")
        arguments += [r.bias.detach(), r.items, r.offsets, r.rows]
    torch.testing.assert_close(
        cross_entropy._reference(*arguments), torch.ops.recblr._linear_cross_entropy(*arguments)
    )


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_label_smoothing_outside_0_to_1_is_refused(share):
    hidden, weight, targets = _problem(3, 7, 4, 1.0, 0, torch.float32)
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\], but is"):
        linear_cross_entropy(hidden, weight, targets, label_smoothing=share)


def test_the_loss_of_no_rows_is_zero():
    hidden, weight = torch.zeros(0, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.zeros(0, dtype=torch.long), label_smoothing=0.1)
    loss.backward()
    assert loss == 0
    assert not weight.grad.any()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory figures that only Linux has")
def test_only_a_chunk_of_logits_exists_at_a_time():
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    ours, plain = map(int, done.stdout.split())
    assert ours < 4 * 1024 * 50_000 / 8
    assert plain > 4 * 1024 * 50_000


# Prints the number of bytes by which each loss raises the peak memory of the process.
PEAKS = """
import torch, torch.nn.functional as F
from pathlib import Path
from recblr.nn.losses import linear_cross_entropy

def peak():  # not getrusage: it starts with the peak of the parent process
    line = next(line for line in Path("/proc/self/status").open() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])

hidden, weight = torch.randn(1024, 4, requires_grad=True), torch.randn(50_000, 4, requires_grad=True)
targets = torch.randint(50_000, (1024,))
linear_cross_entropy(hidden[:1], weight, targets[:1]).backward()
before = peak()
linear_cross_entropy(hidden, weight, targets).backward()
print(peak() - before)
F.cross_entropy(hidden @ weight.T, targets).backward()
print(peak() - before)
"""


def test_without_gradients_none_are_computed():
    hidden, weight, targets = torch.randn(9, 4), torch.randn(7, 4), torch.randint(7, (9,))
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, targets))
    assert not loss.requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("item", [0, 70, 2999])
def test_a_non_finite_logit_makes_the_loss_non_finite(bad, item):
    weight = torch.randn(3001, 4)
    weight[item] = bad
    assert not linear_cross_entropy(torch.ones(2, 4), weight, torch.tensor([3, 5])).isfinite()


def test_items_with_a_score_of_minus_infinity_have_probability_zero():
    """Some blocks consist only of such items."""
    hidden, weight = torch.ones(2, 1, requires_grad=True), torch.zeros(3001, 1)
    weight[5:] = float("-inf")
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 4]))
    torch.testing.assert_close(loss, torch.tensor(5.0).log())


def test_bits_do_not_depend_on_threads():
    problem = _problem(300, 3001, 16, 1.0, 0, torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            results.append(_loss_and_gradients(linear_cross_entropy, *problem))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_strides_of_arguments_do_not_change_the_result():
    hidden, weight, targets = _problem(20, 300, 6, 1.0, 0, torch.float64)
    expected = _loss_and_gradients(_plain, hidden, weight, targets)
    strided = [x.detach().mT.contiguous().mT.requires_grad_() for x in (hidden, weight)]
    torch.testing.assert_close(_loss_and_gradients(linear_cross_entropy, *strided, targets), expected)


@pytest.mark.skipif(native.status["cpu"] != "native", reason="torch's messages differ")
@pytest.mark.parametrize("target", [-1, 7])
def test_a_target_outside_the_catalogue_is_named(target):
    with pytest.raises(ValueError, match=f"targets must lie in 0..6, but one is {target}"):
        linear_cross_entropy(torch.randn(1, 4), torch.randn(7, 4), torch.tensor([target]))


def test_16_bits_work():
    hidden, weight, targets = torch.randn(9, 4), torch.randn(7, 4), torch.randint(7, (9,))
    loss = linear_cross_entropy(hidden.bfloat16(), weight.bfloat16(), targets)
    torch.testing.assert_close(
        loss.float(), F.cross_entropy(hidden @ weight.T, targets), rtol=0.05, atol=0.05
    )


@pytest.mark.skipif(native.status["cpu"] != "native", reason="torch's messages differ")
@pytest.mark.parametrize(
    ("hidden", "weight", "targets", "message"),
    [
        ((2, 4), (0, 4), (2,), r"weight must have at least one item, but has shape \(0, 4\)"),
        (
            (2, 4),
            (7, 3),
            (2,),
            r"hidden must be \(N, D\) and weight \(V, D\), but have shapes \(2, 4\) and \(7, 3\)",
        ),
        ((2, 4), (7, 4), (3,), r"targets must have shape \(2,\), one target per row, but has \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(hidden, weight, targets, message):
    with pytest.raises(ValueError, match=f"linear_cross_entropy: {message}"):
        linear_cross_entropy(torch.randn(hidden), torch.randn(weight), torch.zeros(targets, dtype=torch.long))


def test_an_argument_that_is_not_a_tensor_is_named():
    with pytest.raises(TypeError, match="targets must be a tensor, but is of the type list"):
        linear_cross_entropy(torch.randn(2, 4), torch.randn(7, 4), [0, 1])


@pytest.mark.skipif(native.status["cpu"] != "native", reason="torch's messages differ")
def test_dtypes_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match="hidden and weight must have one dtype, but have another dtype and float32"
    ):
        linear_cross_entropy(
            torch.ones(2, 4, dtype=torch.int8), torch.randn(7, 4), torch.zeros(2, dtype=torch.long)
        )
    with pytest.raises(ValueError, match="targets must be int64, but is float32"):
        linear_cross_entropy(torch.ones(2, 4), torch.randn(7, 4), torch.zeros(2))


_HISTORIES = {"items": torch.tensor([1, 2]), "offsets": torch.tensor([0, 2]), "rows": None}


@pytest.mark.skipif(native.status["cpu"] != "native", reason="torch's messages differ")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bias": torch.zeros(1)},
            r"repeat_bias must be one float32, .* of shape \(1,\)",
        ),
        (
            {"bias": torch.tensor(0.0).double()},
            "repeat_bias must be one float32, hidden's dtype, but is float64 ",
        ),
        ({"items": torch.tensor([1.0, 2.0])}, "items must be int64 of one dimension, but is float32"),
        ({"offsets": torch.tensor([0, 3])}, "offsets must end with the number of rows 2"),
        ({"items": torch.tensor([1]), "offsets": torch.tensor([0, 1])}, r"items must have shape \(2,\)"),
        ({"rows": torch.tensor([0])}, r"rows must have shape \(2,\), one per row of hidden, but has \(1,\)"),
        ({"rows": torch.tensor([0, 2])}, "rows must lie in 0..1, but one is 2"),
    ],
)
def test_histories_that_do_not_fit_are_named(changes, message):
    repeats = Repeats(**{"bias": torch.tensor(0.0), **_HISTORIES, **changes})
    with pytest.raises(ValueError, match=f"linear_cross_entropy: {message}"):
        linear_cross_entropy(torch.randn(2, 4), torch.randn(7, 4), torch.tensor([0, 1]), repeats)


@pytest.mark.parametrize("repeating", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_opcheck_passes(gradients, repeating):
    arguments = [torch.randn(5, 3), torch.randn(7, 3), torch.randint(7, (5,)), gradients]
    if repeating:
        r = some_repeats(5, 7, 0, torch.float32)
        arguments += [r.bias.detach(), r.items, r.offsets, r.rows]
    torch.library.opcheck(torch.ops.recblr._linear_cross_entropy.default, arguments)
