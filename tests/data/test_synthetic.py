"""The built-in data follow their process, and a predictor that knows the process reaches the best score."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from data.packing import as_ids, dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from recblr.data import (
    Dataset,
    SyntheticParameters,
    best_possible,
    generate,
    last_item_only,
    leave_one_out,
    read_dataset,
    synthesize,
    write_inter,
)
from recblr.errors import InputError

DEFAULTS = SyntheticParameters()
SMALL = SyntheticParameters(
    users=100, series=4, series_length=8, noise_items=7, threads=3, noise=0.25, min_events=6, max_events=9
)


def catalogue(parameters: SyntheticParameters) -> list[str]:
    episodes = [
        f"s{series:02d}e{episode:02d}"
        for series in range(1, parameters.series + 1)
        for episode in range(1, parameters.series_length + 1)
    ]
    return episodes + [f"x{item}" for item in range(1, parameters.noise_items + 1)]


def series_and_episode(token: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"s(\d+)e(\d+)", token)
    return (int(match[1]), int(match[2])) if match else None


def after(parameters: SyntheticParameters, series: int, episode: int) -> str:
    return f"s{series:02d}e{episode % parameters.series_length + 1:02d}"


def chances(parameters: SyntheticParameters, history: list[str]) -> dict[str, float]:
    """The probability of each next item, straight from the process.

    It depends on the position in each thread, and on the noise items that the user does not have yet.
    """
    heads: dict[int, int] = {}
    for token in history:
        place = series_and_episode(token)
        if place:
            heads[place[0]] = place[1]
    unused = [t for t in catalogue(parameters) if t.startswith("x") and t not in history]
    result = dict.fromkeys(catalogue(parameters), 0.0)
    for series, episode in heads.items():
        result[after(parameters, series, episode)] = (1 - parameters.noise) / parameters.threads
    for token in unused:
        result[token] = parameters.noise / len(unused)
    return result


def empirical(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """{metric: its value for each user}."""
    values: dict[str, np.ndarray] = {}
    for k in (1, 5, 10, 20, 50):
        hit = ranks <= k
        values |= {f"hr@{k}": hit * 1.0, f"ndcg@{k}": hit / np.log2(ranks + 1), f"mrr@{k}": hit / ranks}
    return values


def oracle_ranks(data: Dataset, parameters: SyntheticParameters) -> np.ndarray:
    rng = np.random.default_rng(99)
    tokens = catalogue(parameters)
    ranks = []
    for history in as_ids(data).values():
        by_token = chances(parameters, history[:-1])
        # Items with equal probabilities are ranked in random order.
        order = np.lexsort((rng.random(len(tokens)), np.array([-by_token[token] for token in tokens])))
        ranks.append(1 + [tokens[place] for place in order].index(history[-1]))
    return np.array(ranks)


@pytest.mark.parametrize(
    "parameters",
    [
        replace(DEFAULTS, users=1500),
        replace(SMALL, users=4000),
        # With these, every noise item is more likely than the next item of any thread.
        replace(SMALL, users=4000, noise=0.9, seed=5),
        replace(SMALL, users=1000, noise=0.0, noise_items=0),
    ],
)
def test_a_predictor_that_knows_the_process_reaches_the_best_score(parameters: SyntheticParameters) -> None:
    data = generate(parameters)
    expected = best_possible(data, parameters)
    reached = empirical(oracle_ranks(data, parameters))
    assert reached.keys() == expected.keys()
    for name, values in reached.items():
        error = 4 * values.std() / np.sqrt(values.size) + 1e-9
        assert values.mean() == pytest.approx(expected[name], abs=error), name


def test_the_best_score_of_the_defaults_agrees_with_arithmetic() -> None:
    expected = best_possible(generate(DEFAULTS), DEFAULTS)
    assert expected["hr@1"] == pytest.approx(0.3)
    assert expected["mrr@1"] == pytest.approx(0.3)
    assert 0.9 + 7 * 0.1 / 100 < expected["hr@10"] < 0.9 + 7 * 0.1 / 80


def test_the_score_from_the_last_item_is_between_two_counts() -> None:
    # A table counts which item follows which. Its score is above the true one on the users that were counted,
    # and below it on other users.
    tokens = catalogue(SMALL)
    place = {token: index for index, token in enumerate(tokens)}

    def last_and_next(seed: int) -> tuple[np.ndarray, np.ndarray, Dataset]:
        data = generate(replace(SMALL, users=120_000, seed=seed))
        split = leave_one_out(data).test
        to_place = np.array([place[token] for token in data.item_ids])
        return to_place[split.histories.items[split.histories.offsets[1:] - 1]], to_place[split.targets], data

    last, following, data = last_and_next(1)
    table = np.zeros((len(tokens), len(tokens)))
    np.add.at(table, (last, following), 1)
    rank_of = 1 + np.argsort(np.argsort(-table, axis=1, kind="stable"), axis=1)
    seen = empirical(rank_of[last, following])
    last, following, _ = last_and_next(2)
    unseen = empirical(rank_of[last, following])
    for name, expected in last_item_only(data, SMALL).items():
        error = 4 * seen[name].std() / np.sqrt(seen[name].size) + 1e-9
        assert unseen[name].mean() - error <= expected <= seen[name].mean() + error, name
        # The two counts are close together. Otherwise the test would prove little.
        assert seen[name].mean() - unseen[name].mean() < 0.03, name


def test_the_whole_history_gives_a_much_better_score_than_the_last_item() -> None:
    data = generate(DEFAULTS)
    best, last = best_possible(data, DEFAULTS), last_item_only(data, DEFAULTS)
    assert best["hr@10"] > 3 * last["hr@10"]
    assert best["ndcg@10"] > 2 * last["ndcg@10"]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0, 1))
def test_histories_follow_the_process(seed: int, threads: int, noise: float) -> None:
    parameters = replace(
        SMALL, users=20, seed=seed, threads=threads, noise=noise, noise_items=9, series_length=10
    )
    for history in as_ids(generate(parameters)).values():
        assert parameters.min_events <= len(history) <= parameters.max_events
        assert len(set(history)) == len(history)
        opening = [series_and_episode(token) for token in history[:threads]]
        assert len({place[0] for place in opening if place}) == threads
        for t in range(threads, len(history)):
            assert chances(parameters, history[:t])[history[t]] > 0


def test_random_choices_of_the_process_are_uniform() -> None:
    data = generate(replace(DEFAULTS, users=5000))
    counts = np.bincount(data.histories.items, minlength=data.num_items)
    series = np.array([not token.startswith("x") for token in data.item_ids])
    assert data.num_items == 20 * 50 + 100
    for group in (counts[series], counts[~series]):
        assert abs(group - group.mean()).max() < 6 * np.sqrt(group.mean())
    lengths = np.bincount(data.histories.lengths)[20:]
    assert lengths.size == 21
    assert abs(lengths - lengths.mean()).max() < 5 * np.sqrt(lengths.mean())
    after_opening = data.num_interactions - 3 * data.num_users
    assert counts[~series].sum() / after_opening == pytest.approx(0.1, abs=0.005)


def test_the_same_parameters_make_the_same_data() -> None:
    assert synthesize(users=50, seed=3).fingerprint == synthesize(users=50, seed=3).fingerprint
    assert synthesize(users=50, seed=3).fingerprint != synthesize(users=50, seed=4).fingerprint


def test_two_blocks_of_users_have_different_histories() -> None:
    histories = list(as_ids(synthesize(users=4096 + 50)).values())
    assert len(histories) == 4146
    assert histories[:50] != histories[4096:]


def test_keywords_and_parameters_have_the_same_defaults() -> None:
    assert synthesize().fingerprint == generate(DEFAULTS).fingerprint
    other = replace(SMALL, users=40, seed=8)
    assert synthesize(**asdict(other)).fingerprint == generate(other).fingerprint


@pytest.mark.parametrize("name", ["synthetic.inter", "synthetic.inter.gz"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_file_of_the_data_reads_back_unchanged_through_the_default_filter(
    tmp_path: Path, name: str, seed: int
) -> None:
    data = synthesize(seed=seed)
    write_inter(data, tmp_path / name)
    read = read_dataset(tmp_path / name, k_core=5)
    assert read.fingerprint == data.fingerprint
    assert read.name == data.name


@pytest.mark.parametrize("score", [best_possible, last_item_only])
def test_data_of_other_parameters_are_refused(
    score: Callable[[Dataset, SyntheticParameters], dict[str, float]],
) -> None:
    with pytest.raises(InputError, match="has the item 'apple'"):
        score(dataset([[0, 1, 2]]), DEFAULTS)
    with pytest.raises(InputError, match="give the parameters that generated the data"):
        score(generate(replace(DEFAULTS, users=20)), SMALL)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"users": 0}, "users must be at least 1"),
        ({"seed": -1}, "seed must not be negative"),
        ({"noise": 1.5}, "noise is a probability"),
        ({"threads": 21}, r"threads must lie in 1\.\.20"),
        ({"threads": 0}, r"threads must lie in 1\.\.20"),
        ({"min_events": 4}, "min_events must be at least 5"),
        ({"max_events": 19}, "max_events must be at least min_events"),
        ({"series_length": 38}, "series_length must be at least 39"),
        ({"noise_items": 37}, "noise_items must be at least 38"),
    ],
)
def test_parameters_without_an_exact_best_score_are_refused(changed: dict[str, int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(DEFAULTS, **changed)
