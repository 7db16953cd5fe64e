"""docs/engine.md: the layout of a state, read from real bytes; the sizes; and which bits agree."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving.engines import BY_NAME, CASES, IDS, START, Case, case, file_of, fresh, model_of
from training.tiny_runs import one_thread

from recblr.nn.states import TimedState
from recblr.serving.engine import Engine

PAGE = (Path(__file__).parents[2] / "docs/engine.md").read_text(encoding="utf-8")
HALF, TIMED, PENDING, HISTORY, WINDOWED = 1, 2, 4, 8, 16


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    with one_thread():
        yield


def checksum(data: bytes) -> int:
    total = 0xCBF29CE484222325
    for byte in data:
        total = (total ^ byte) * 0x100000001B3 % 2**64
    return total


def as_float32(half: np.ndarray) -> np.ndarray:
    return (half.astype(np.uint32) << 16).view(np.float32)


def parsed(kept: bytes) -> tuple[Any, ...]:
    # [parse]
    import struct

    import numpy as np

    magic, format, flags, digest, time, item, gap, row_bytes, num_seen, num_events = struct.unpack_from(
        "<8sII32sdifqqq", kept
    )
    row = np.frombuffer(kept, np.float32, row_bytes // 4, offset=88)  # without flag 1
    seen = np.frombuffer(kept, np.int32, num_seen, offset=88 + row_bytes)
    history = np.frombuffer(kept, np.int32, num_events, offset=88 + row_bytes + 4 * num_seen)
    # [/parse]
    return (
        *(magic, format, flags, digest, time, item, gap, row_bytes, num_seen, num_events),
        *(row, seen, history),
    )


@pytest.mark.parametrize("history_kept", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_bytes_of_a_state(case: Case, history_kept: bool) -> None:
    history_kept |= case.config.max_length is not None
    engine = fresh(case, history=history_kept)
    items, times = [3, 9, 3, 20, 1], START + np.array([0.0, 60.5, 60.5, 5000.0, 9e5])
    engine.update_many(["u"] * 5, [IDS[i] for i in items], times=times)
    kept = engine.state("u")
    magic, format, flags, digest, time, item, gap, row_bytes, num_seen, num_events, *arrays = parsed(kept)
    row, seen, history = arrays
    windowed, request = case.config.max_length is not None, case.config.time_use == "request"
    pending = request and not windowed
    assert (magic, format, len(digest)) == (b"recblrST", 1, 32)
    assert flags == TIMED * case.timed + PENDING * pending + HISTORY * history_kept + WINDOWED * windowed
    assert time == (times[-1] if case.timed else 0)
    assert seen.tolist() == sorted(set(items))
    assert history.tolist() == (items if history_kept else [])
    at = 88 + row_bytes + 4 * num_seen + 4 * num_events
    if history_kept and case.timed:
        assert np.frombuffer(kept, np.float64, num_events, offset=at).tolist() == times.tolist()
        at += 8 * num_events
    assert len(kept) == at + 8
    assert struct.unpack_from("<Q", kept, at) == (checksum(kept[:at]),)
    assert row_bytes == engine.bytes_of_user
    assert row_bytes % 64 == 0
    if windowed:
        assert row_bytes == 0
        return
    assert item == (items[-1] if pending else 0)

    model = model_of(case)
    given = [torch.tensor(times)] if case.timed else []
    if request:  # the request is at the time of the last event
        given.append(torch.tensor(times[-1:]))
    names = ["times", "request_times"][: len(given)]
    with torch.no_grad():
        hidden, state = model.with_state(
            torch.tensor(items), offsets=torch.tensor([0, 5]), **dict(zip(names, given, strict=True))
        )
    if isinstance(state, TimedState):
        if pending:
            assert gap == pytest.approx(float(state.pending.gap[0]))
        state = state.layers
    if not pending:
        assert gap == 0
    parts = [part for layer in state for part in layer if part is not None]
    expected = [part[0].reshape(-1).numpy() for part in parts] + ([] if request else [hidden[-1].numpy()])
    expected = np.concatenate(expected)
    np.testing.assert_allclose(row[: len(expected)], expected, rtol=1e-4, atol=1e-5)
    assert not row[len(expected) :].any()
    assert len(row) - len(expected) < 16
    config, inner = case.config, case.config.layer().d_inner
    layer = config.d_conv * inner + config.d_model * config.history_average
    assert len(expected) == config.num_layers * layer + config.d_model * (not request)

    half = fresh(case, states="bfloat16", history=history_kept)
    half.update_many(["u"] * 5, [IDS[i] for i in items], times=times)
    short = half.state("u")
    assert struct.unpack_from("<I", short, 12) == (flags | HALF,)
    numbers = as_float32(np.frombuffer(short, np.uint16, len(expected), offset=88))
    np.testing.assert_allclose(numbers, expected, rtol=0.1, atol=0.05 * np.abs(expected).max())


def test_the_page_names_every_field_with_its_place() -> None:
    rows = re.findall(r"^\| (\d+) \| ([\w ]+) \|", PAGE, re.MULTILINE)
    sizes = {"8 bytes": 8, "32 bytes": 32, "uint32": 4, "int32": 4, "float32": 4, "float64": 8, "int64": 8}
    at = 0
    for place, kind in rows:
        assert int(place) == at
        at += sizes.get(kind, 0)
    assert len(rows) == 11
    assert at == 88


@pytest.mark.parametrize("time", ["none", "past", "request"])
def test_the_sizes_of_rows(time: Any) -> None:
    path = file_of(model_of(case("default", time=time, d_model=64, num_layers=2)), IDS)
    sizes = [Engine.load(path, states=states).bytes_of_user for states in ("float32", "bfloat16")]
    assert f"\n| {time} | {sizes[0]:,} | {sizes[1]:,} |\n" in PAGE


@pytest.mark.parametrize("states", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bits_that_agree(case: Case, states: Any) -> None:
    random = np.random.default_rng(0)
    items, times = random.choice(IDS, 50).tolist(), START + np.sort(random.uniform(0, 1e5, 50))
    options = {"states": states, "history": True}
    one, many, whole = (fresh(case, threads=threads, **options) for threads in (1, 2, 2))
    for item, time in zip(items, times, strict=True):
        one.update("u", item, time=time)
    users = [f"v{number}" for number in range(8)]
    for start in range(0, 50, 7):
        part = slice(start, start + 7)
        together = [(user, *event) for event in zip(items[part], times[part], strict=True) for user in users]
        names, what, when = zip(*together, strict=True)
        many.update_many(names, what, times=when)
    whole.rebuild({"u": (items, times)})
    states_of = {one.state("u"), whole.state("u"), *(many.state(user) for user in users)}
    assert len(states_of) == 1

    request = START + 2e5
    best = one.recommend("u", len(IDS), time=request, mask_seen=False)
    assert many.recommend_many(users, len(IDS), times=[request] * 8, mask_seen=False) == [best] * 8
    assert one.score("u", [item for item, _ in best], time=request).tolist() == [score for _, score in best]
    if states == "float32":
        for table in ("bfloat16", "int8"):
            other = fresh(case, table=table, **options)
            found = other.recommend_history(items, len(IDS), times=times, time=request, mask_seen=False)
            assert found == best


def test_a_set_of_seen_items_takes_about_a_byte_for_each() -> None:
    many = case("many items", time="none", d_model=2)
    engine = Engine.load(file_of(model_of(many, 3000), [str(n) for n in range(3000)]))
    engine.rebuild({"u": np.random.default_rng(0).permutation(3000)[:200]})
    assert 200 <= engine.seen_bytes <= 220
    assert engine.state("u")  # a history of the same length: 4 bytes for each event, or 12 with a time
    for name, each in (("plain", 4), ("past", 12)):
        case_ = BY_NAME[name]
        sizes = []
        for count in (10, 110):
            kept = fresh(case_, history=True)
            kept.rebuild({"u": (["i1"] * count, START + np.arange(count))})
            sizes.append(len(kept.state("u")))
        assert sizes[1] - sizes[0] == 100 * each
