"""Time in the models: gaps, every split into chunks and requests, and times that do not fit."""

import math
from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recblr.config.model import GRU4RecConfig, SASRecConfig
from recblr.data.packed import DAY, Packed, time_range
from recblr.nn import RecBLR, RecBLRConfig
from recblr.nn.baselines import GRU4Rec, SASRec
from recblr.nn.model import build_model
from recblr.nn.time import Fading, GapFunction, TimeEncoder

ITEMS, START = 11, 1.7e9
USES = ("none", "past", "request")
KNOWING = ("past", "request")

# Equal times, falling clocks, fractions of a second, and gaps of decades.
GAPS = st.sampled_from([0.0, 0.0, 0.25, 1.0, 59.0, 3600.5, 86400.0, 3e7, 1e9, -5.0])


def model_of(use, dtype=torch.float64, config=RecBLRConfig, **options):
    torch.manual_seed(0)
    model = build_model(ITEMS, config(d_model=8, time=use, dropout=0.0, **options)).to(dtype).eval()
    with torch.no_grad():  # larger than at the start of training, so that every path matters
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "conv" not in name:
                parameter.normal_(std=0.4)
    return model


@st.composite
def logs(draw, users=3, longest=6):
    """Items and times of some users, and when each is asked for the next item; a user may have no event."""
    histories = []
    for _ in range(draw(st.integers(1, users))):
        length = draw(st.integers(0, longest))
        items = draw(st.lists(st.integers(0, ITEMS - 1), min_size=length, max_size=length))
        gaps = draw(st.lists(GAPS, min_size=length + 1, max_size=length + 1))
        times = [START + sum(gaps[: i + 1]) for i in range(length + 1)]
        histories.append((items, times[:-1], times[-1]))
    return histories


def packed(histories):
    items = torch.tensor([item for history in histories for item in history[0]], dtype=torch.int64)
    times = torch.tensor([time for history in histories for time in history[1]], dtype=torch.float64)
    offsets = torch.tensor([0, *np.cumsum([len(history[0]) for history in histories])])
    request_times = torch.tensor([history[2] for history in histories], dtype=torch.float64)
    return {"items": items, "times": times, "offsets": offsets, "request_times": request_times}


def plain_gaps(times, request, longest=math.inf):
    """The gaps of one history, from their definition."""
    later = [*times, request][1:]
    past = [max(0.0, b - a) for a, b in zip([*times[:1], *times], times, strict=False)]
    ahead = [max(0.0, b - a) for a, b in zip(times, later, strict=True)]
    return [min(g, longest) for g in past], [min(g, longest) for g in ahead]


@given(logs(), st.sampled_from([60, 86400, 2**31]))
def test_gaps_are_the_differences_of_times_within_a_history(histories, longest):
    encoder = TimeEncoder(4, with_request=True)
    encoder.set_range(longest)
    given_ = packed(histories)
    gaps = encoder.gaps(given_["times"], given_["request_times"], given_["offsets"])
    plain = [plain_gaps(times, request, longest) for _, times, request in histories]
    assert gaps.past.tolist() == pytest.approx([gap for past, _ in plain for gap in past])
    assert gaps.next.tolist() == pytest.approx([gap for _, ahead in plain for gap in ahead])


@pytest.mark.parametrize("use", USES)
@settings(max_examples=25)
@given(histories=logs(), data=st.data())
def test_every_split_into_chunks_gives_the_whole_pass(use, histories, data):
    model = model_of(use)
    whole, expected_state = model.with_state(**packed(histories))
    torch.testing.assert_close(model(**packed(histories)), whole, rtol=1e-10, atol=1e-10)
    cuts = [
        [0, *sorted(data.draw(st.lists(st.integers(0, len(items)), min_size=2, max_size=2))), len(items)]
        for items, _, _ in histories
    ]
    state, parts = None, [[] for _ in histories]
    for number in range(3):
        chunk = [
            (items[start:end], times[start:end], [*times, request][end])
            for (items, times, request), (start, end) in zip(
                histories, (cut[number : number + 2] for cut in cuts), strict=True
            )
        ]
        if use == "request" and state is not None:  # a request between events leaves no trace
            model.hidden_at(state, torch.full((len(histories),), START + 5.0, dtype=torch.float64))
        hidden, state = model.with_state(**packed(chunk), state=state)
        rows = iter(hidden)
        for part, (items, _, _) in zip(parts, chunk, strict=True):
            part.extend(next(rows) for _ in items)
    found = [row for part in parts for row in part]
    if found:
        torch.testing.assert_close(torch.stack(found), whole, rtol=1e-9, atol=1e-9)
        assert_states_close(state, expected_state)


def assert_states_close(state, expected):
    for found, wanted in zip(leaves(state), leaves(expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)


def leaves(state):
    if state is None:
        return []
    return [state] if isinstance(state, torch.Tensor) else [leaf for part in state for leaf in leaves(part)]


@pytest.mark.parametrize("use", USES)
def test_steps_give_the_whole_pass(use):
    model = model_of(use)
    items = torch.randint(ITEMS, (3, 6))
    times = START + torch.rand(3, 6, dtype=torch.float64).mul(1e5).cumsum(1)
    asked = torch.cat([times[:, 1:], times[:, -1:] + 7], 1)
    whole, state = model(items, times=times, request_times=asked[:, -1]), None
    for t in range(6):
        hidden, state = model.step(items[:, t], state, time=times[:, t], request_time=asked[:, t])
        torch.testing.assert_close(hidden, whole[:, t])


def test_a_request_without_an_event_gives_what_the_event_would_have_given():
    model = model_of("request")
    histories = [([1, 2, 3], [START, START + 5, START + 5], START + 60), ([], [], START)]
    hidden, state = model.with_state(**packed(histories))
    before = [leaf.clone() for leaf in leaves(state)]
    later = [(items, times, START + 9000) for items, times, _ in histories]
    answers = model.hidden_at(state, packed(later)["request_times"])
    torch.testing.assert_close(answers[0], model(**packed(later))[-1])
    assert not torch.allclose(answers[0], hidden[-1])
    assert answers[1].eq(0).all()  # a history without events
    for found, wanted in zip(leaves(state), before, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("use", KNOWING)
def test_padded_nested_and_packed_histories_give_the_same(use):
    model = model_of(use)
    histories = [
        ([1, 2, 3], [START, START + 5, START + 5], START + 60),
        ([], [], START),
        ([4], [START], START),
    ]
    rows = packed(histories)
    expected, expected_state = model.with_state(**rows)
    lengths = rows["offsets"].diff()
    items = torch.full((3, 4), ITEMS - 1)
    times = torch.full((3, 4), torch.nan, dtype=torch.float64)  # padding is not read
    for row, (history, moments, _) in enumerate(histories):
        items[row, : len(history)] = torch.tensor(history, dtype=torch.int64)
        times[row, : len(history)] = torch.tensor(moments, dtype=torch.float64)
    asked = rows["request_times"]
    padded, state = model.with_state(items, times=times, request_times=asked, lengths=lengths)
    valid = torch.arange(4) < lengths.unsqueeze(1)
    torch.testing.assert_close(padded[valid], expected)
    assert padded[~valid].eq(0).all()
    assert_states_close(state, expected_state)
    nested = (
        torch.nested.nested_tensor_from_jagged(rows[name], rows["offsets"]) for name in ("items", "times")
    )
    values = model(next(nested), times=next(nested), request_times=asked).values()
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("use", KNOWING)
def test_lengths_in_a_compiled_graph_give_the_same(use, monkeypatch):
    model = model_of(use)
    items = torch.randint(ITEMS, (2, 4))
    times = START + torch.rand(2, 4, dtype=torch.float64).mul(1e5).cumsum(1)
    given_ = {"times": times, "request_times": times[:, -1] + 9, "lengths": torch.tensor([4, 2])}
    expected = model(items, **given_)
    monkeypatch.setattr("recblr.nn.padding.at_hand", lambda values: False)
    torch.testing.assert_close(model(items, **given_), expected)


@pytest.mark.parametrize("use", KNOWING)
def test_a_model_learns_from_gaps(use):
    """Every parameter that belongs to time gets a gradient."""
    model = model_of(use, torch.float32).train()
    histories = [([1, 2, 3], [START, START + 5, START + 500], START + 60000)]
    model(**packed(histories)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if "time" in name or "fading" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("use", USES)
def test_what_a_model_does_not_know_does_not_change_it(use):
    model = model_of(use)
    histories = [([1, 2, 3], [START, START + 5, START + 500], START + 60000)]
    other_request = [(items, times, request + 1e5) for items, times, request in histories]
    other_gaps = [
        (items, [times[0], times[1] + 90, times[2]], request) for items, times, request in histories
    ]
    hidden = [model(**packed(log)) for log in (histories, other_request, other_gaps)]
    assert torch.equal(hidden[0], hidden[1]) == (use != "request")
    assert torch.equal(hidden[0], hidden[2]) == (use == "none")


@pytest.mark.parametrize(
    "config", [RecBLRConfig, SASRecConfig, GRU4RecConfig], ids=["recblr", "sasrec", "gru4rec"]
)
@pytest.mark.parametrize("use", KNOWING)
def test_models_do_not_look_ahead(config, use):
    """An output depends on its own event, the earlier ones, and at most the time of the next request."""
    model = model_of(use, config=config)
    log = ([1, 2, 3, 4], [START, START + 5, START + 500, START + 900], START + 6000)
    whole = model(**packed([log]))
    for length in (1, 2, 3):
        items, times, _ = log
        part = (items[:length], times[:length], times[length])
        torch.testing.assert_close(model(**packed([part])), whole[:length])


def test_the_models_of_the_baselines_have_the_same_functions_of_gaps():
    for kind, config in ((SASRec, SASRecConfig), (GRU4Rec, GRU4RecConfig)):
        model = model_of("request", config=config)
        assert isinstance(model, kind)
        ours = {name: tuple(t.shape) for name, t in model_of("request").time.named_parameters()}
        assert {name: tuple(t.shape) for name, t in model.time.named_parameters()} == ours


@given(st.lists(st.floats(0, 3e9), min_size=1, max_size=5))
def test_the_fading_is_positive_finite_and_1_at_gap_0(gaps):
    fading = Fading()
    nn.init.normal_(fading.logarithm.knots.weight, std=2.0)
    factors = fading(torch.tensor([0.0, *gaps]))
    assert factors.shape == (len(gaps) + 1, 1)
    assert factors[0].item() == 1.0
    assert factors.gt(0).all()
    assert factors.isfinite().all()


def test_a_function_of_gaps_is_continuous_and_meets_its_knots():
    function = GapFunction(1).double()
    nn.init.normal_(function.knots.weight)
    knots = function.knots.weight.detach().squeeze(1)
    places = torch.arange(len(knots), dtype=torch.float64)
    torch.testing.assert_close(function(2 ** (places / 1.5) - 1).squeeze(1), knots)
    middle = function(2 ** ((places[:-1] + 0.5) / 1.5) - 1).squeeze(1)
    torch.testing.assert_close(middle, (knots[:-1] + knots[1:]) / 2)
    assert function(torch.tensor([1e30], dtype=torch.float64)).item() == knots[-1].item()


def test_a_gap_beyond_the_longest_of_training_counts_as_the_longest():
    model = model_of("request")
    model.time.set_range(1000)
    at = [([1, 2], [START, START + 5], START + 5 + gap) for gap in (1000, 1e8, 999)]
    longest, beyond, within = (model(**packed([log])) for log in at)
    assert torch.equal(longest, beyond)
    assert not torch.equal(longest, within)


@pytest.mark.parametrize("shift", [0, 3600])
def test_a_model_of_dates_uses_only_the_dates(shift):
    days = np.array([0, 0, 3, 400]) * DAY + 19_000.0 * DAY + shift
    found = time_range(Packed(np.arange(4), np.array([0, 4]), days))
    assert (found.step, found.start) == (DAY, shift)
    assert found.longest_gap == 397 * DAY
    model = model_of("request")
    model.time.set_range(*astuple(found))
    day = days[-1]
    at = [model(**packed([([1], [day], day + seconds)])) for seconds in (0, 80_000, DAY, DAY + 5)]
    assert torch.equal(at[0], at[1])
    assert torch.equal(at[2], at[3])
    assert not torch.equal(at[0], at[2])


@pytest.mark.parametrize(
    ("hours", "step", "start"),
    [
        ([22, 23], DAY, 22),
        ([23, 0], DAY, 23),
        ([0, 1], DAY, 0),
        ([9, 9], DAY, 9),
        ([22, 0], 3600, 0),
        ([9, 9.5], 60, 0),
    ],
)
def test_dates_of_a_zone_with_summer_time_are_dates(hours, step, start):
    summer, winter = (hour * 3600.0 + (hour > 12) * -DAY for hour in hours)
    times = np.array([170 * DAY + summer, 171 * DAY + summer, 330 * DAY + winter, 331 * DAY + winter])
    found = time_range(Packed(np.arange(4), np.array([0, 4]), times))
    assert (found.step, found.start) == (step, start * 3600)
    if step == DAY:
        model = model_of("request")
        model.time.set_range(*astuple(found))
        gaps = model.time.gaps(torch.from_numpy(times), None, torch.tensor([0, 4]))
        assert (gaps.past / DAY).tolist() == [0, 1, 159, 1]


@pytest.mark.parametrize(("step", "start"), [(3600, 1800), (60, 7), (1, 0)])
def test_a_model_of_coarse_times_rounds_every_time_down(step, start):
    times = START // 3600 * 3600 + start + step * np.array([0, 7, 7, 500, 501])
    found = time_range(Packed(np.arange(5), np.array([0, 5]), times))
    assert (found.step, found.start) == (step, start)
    model = model_of("request")
    model.time.set_range(*astuple(found))
    steps = (0, 0.9, 1, 1.99)
    at = [model(**packed([([1], [times[-1]], times[-1] + step * after)])) for after in steps]
    assert torch.equal(at[0], at[1])
    assert torch.equal(at[2], at[3])
    assert not torch.equal(at[0], at[2])


def test_two_times_of_one_day_are_no_dates():
    times = np.array([9.0, 10.0, 33.0]) * 3600
    assert time_range(Packed(np.arange(3), np.array([0, 3]), times)).step == 3600


def test_the_range_of_training_ignores_gaps_between_users():
    times = np.array([0.0, 10.5, 5e8, 5e8 + 3])
    found = time_range(Packed(np.arange(4), np.array([0, 2, 4]), times))
    assert (found.longest_gap, found.step) == (11, 0)
    assert time_range(Packed(np.arange(4), np.array([0, 2, 4]))) is None
    assert time_range(Packed(np.arange(2), np.array([0, 2]), np.full(2, 7.0))) is None


def test_a_cast_to_bfloat16_keeps_the_range():
    model = model_of("request", torch.float32)
    model.time.set_range(123_456_789, 86_400, 12_345)
    model.bfloat16()
    found = [getattr(model.time, name).item() for name in ("longest_gap", "step", "start")]
    assert found == [123_456_789, 86_400, 12_345]
    hidden = model(**packed([([1, 2], [START, START + 5], START + 9)]))
    assert hidden.dtype == torch.bfloat16
    assert hidden.isfinite().all()


GOOD = {
    "times": torch.full((1, 2), START, dtype=torch.float64),
    "request_times": torch.tensor([START]).double(),
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"times": None}, r"times must be float64 seconds.* time='request', but are missing"),
        ({"request_times": None}, "request_times must be .* but are missing"),
        ({"times": torch.zeros(1, 2)}, "but are float32"),
        ({"times": torch.zeros(2).double()}, r"shape \(1, 2\)"),
        ({"request_times": torch.zeros(2).double()}, r"shape \(1,\)"),
        ({"times": GOOD["times"] * torch.nan}, "times must be finite"),
        ({"request_times": GOOD["request_times"] * torch.inf}, "request_times must be finite"),
    ],
)
def test_times_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        model_of("request")(torch.tensor([[1, 2]]), **{**GOOD, **changed})


def test_times_that_are_no_tensor_are_refused():
    with pytest.raises(TypeError, match=r"times must be float64 .* type list"):
        model_of("past")(torch.tensor([[1, 2]]), times=[START, START])


@pytest.mark.parametrize("config", [SASRecConfig, GRU4RecConfig])
def test_baselines_refuse_times_that_are_not_finite(config):
    model, log = model_of("request", config=config), packed([([1, 2], [START, START + 5], START + 9)])
    for name in ("times", "request_times"):
        with pytest.raises(ValueError, match=f"^{name} must be finite"):
            model(**{**log, name: log[name] * torch.nan})


@pytest.mark.parametrize("use", ["past", "request"])
def test_items_of_another_form_are_refused(use):
    model, moments = model_of(use), GOOD["times"][0]
    for items, offsets in ((torch.tensor([1, 2]), None), (torch.tensor([[1, 2]]), torch.tensor([0, 2]))):
        with pytest.raises(ValueError, match=r"must be a \(B, T\) batch, or packed \(N,\) with offsets"):
            model(items, times=moments, request_times=moments, offsets=offsets)
    for items, offsets in (([1, 2], torch.tensor([0, 2])), (torch.tensor([1, 2]), [0, 2])):
        with pytest.raises(TypeError, match="must be a tensor of integers, but are of the type list"):
            model(items, times=moments, request_times=moments, offsets=offsets)


def test_a_step_names_the_shape_of_its_own_times():
    model, item = model_of("past"), torch.tensor([1])
    with pytest.raises(TypeError, match=r"times must be float64 .* shape \(1,\), but are of the type float"):
        model.step(item, time=START)
    with pytest.raises(ValueError, match=r"shape \(1,\), but are float64 of shape \(\)"):
        model.step(item, time=torch.tensor(START).double())


@pytest.mark.parametrize("items", [torch.tensor(1), torch.tensor([[1, 2]])])
def test_a_step_takes_one_event_of_each_history(items):
    with pytest.raises(ValueError, match=r"items must be \(B,\), one event of each history"):
        model_of("none").step(items)


def test_states_of_other_models_are_refused():
    items = torch.tensor([[1, 2]])
    states = {use: model_of(use).with_state(items, **GOOD)[1] for use in USES}
    for use in USES:
        for other in USES:
            if use != other:
                with pytest.raises(ValueError, match=f"does not fit a model with time='{use}'"):
                    model_of(use)(items, **GOOD, state=states[other])
    for state in (None, states["none"], states["past"]):
        with pytest.raises(ValueError, match="does not fit a model with time='request'"):
            model_of("request").hidden_at(state, GOOD["request_times"])
    with pytest.raises(ValueError, match="each of the 1 layers, but holds 2"):
        model_of("past", num_layers=1)(items, **GOOD, state=states["past"])


@pytest.mark.parametrize("use", ["none", "past"])
def test_only_a_model_that_knows_the_request_answers_without_an_event(use):
    model = model_of(use)
    _, state = model.with_state(torch.tensor([[1, 2]]), **GOOD)
    with pytest.raises(ValueError, match="does not know when an item is asked for; use the hidden"):
        model.hidden_at(state, GOOD["request_times"])


def test_a_request_at_no_time_is_refused():
    model = model_of("request")
    _, state = model.with_state(torch.tensor([[1, 2]]), **GOOD)
    with pytest.raises(ValueError, match="request_times must be finite"):
        model.hidden_at(state, torch.tensor([torch.nan]).double())


def test_a_new_model_answers_as_without_the_request():
    """The answer to a request starts as no change, so training starts where a model of the past does."""
    model = RecBLR(ITEMS, RecBLRConfig(d_model=8, time="request"))
    hidden = torch.randn(3, 8)
    assert torch.equal(model.time.answer(hidden, torch.tensor([0.0, 5.0, 1e6])), hidden)


def test_a_pass_and_a_step_compile_into_one_graph():
    model = model_of("request", torch.float32)
    items, times = torch.randint(ITEMS, (2, 4)), START + torch.arange(8, dtype=torch.float64).view(2, 4) * 60
    asked, lengths = times[:, -1] + 5, torch.tensor([2, 4])

    def served(items, times, asked, lengths):
        hidden = model(items, times=times, request_times=asked, lengths=lengths)
        _, state = model.with_state(items, times=times, request_times=asked)
        _, state = model.step(items[:, 0], state, time=asked, request_time=asked)
        return hidden, model.hidden_at(state, asked + 3600)

    with torch.no_grad():
        compiled = torch.compile(served, fullgraph=True)(items, times, asked, lengths)
        for found, expected in zip(compiled, served(items, times, asked, lengths), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
