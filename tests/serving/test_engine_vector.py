"""The vectors that the engine gives to a search that is not its own."""

from __future__ import annotations

import numpy as np
import pytest
from serving.engines import BY_NAME, CASES, IDS, NUM_ITEMS, START, Case, fresh, model_of

from recblr.errors import InputError


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_score_is_the_product_of_two_vectors_and_the_bias(case: Case) -> None:
    engine = fresh(case)
    engine.update_many(["u"] * 3, IDS[3:6], times=START + 100 * np.arange(3))
    ids, vectors, retired = engine.items()
    assert (ids, vectors.dtype, retired) == (IDS, np.float32, [])
    np.testing.assert_array_equal(vectors, model_of(case).item_embedding.weight.detach().numpy())
    before = engine.state("u")
    for time in (None, START + 200, START + 5000):
        vector = engine.vector("u", time=time)
        assert (vector.shape, vector.dtype) == ((case.config.d_model,), np.float32)
        bias = (case.bias or 0) * np.isin(IDS, engine.seen("u"))
        expected = vectors.astype(np.float64) @ vector.astype(np.float64) + bias
        np.testing.assert_allclose(engine.score("u", IDS, time=time), expected, rtol=1e-5, atol=1e-5)
    assert engine.state("u") == before
    same = (engine.vector("u", time=START + 200) == engine.vector("u", time=START + 5000)).all()
    assert same == (case.config.time_use != "request")


def test_the_items_are_those_of_this_moment() -> None:
    engine = fresh("plain")
    engine.add_items(["new"], like=[["i1"]])
    engine.retire_items(["i7", "i2"])
    ids, vectors, retired = engine.items()
    assert ids == [*IDS, "new"]
    assert vectors.shape == (NUM_ITEMS + 1, 8)
    assert (vectors[-1] == vectors[1]).all()
    assert retired == [2, 7]


def test_a_vector_needs_a_user_and_a_time_after_the_last_event() -> None:
    engine = fresh(BY_NAME["request"])
    with pytest.raises(InputError, match="no user 'u'"):
        engine.vector("u")
    engine.update("u", "i1", time=START)
    with pytest.raises(InputError, match="the last event is later"):
        engine.vector("u", time=START - 1)
