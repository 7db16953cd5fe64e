"""Similar items without the engine are those of the engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serving.engines import BY_NAME, IDS, NUM_ITEMS, path_of

from recblr.errors import InputError
from recblr.run import read_for_serving
from recblr.run.model_tensors import EMBEDDING
from recblr.serving import items
from recblr.serving.engine import Engine
from recblr.serving.items import similar_items


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e18])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_similar_items_are_those_of_the_engine(
    scale: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "_ITEMS", block)
    model = read_for_serving(path_of(BY_NAME["average"]))
    table = (model.table * scale).astype(np.float32)
    table[3] = table[2] = table[9]  # equal cosines
    table[4] = 0
    model = replace(model, tensors={**model.tensors, EMBEDDING: table}, retired=(5, 7))
    engine = Engine(model, threads=1)
    for item in range(NUM_ITEMS):
        for k in (1, 4, NUM_ITEMS):
            theirs = [(IDS.index(name), cosine) for name, cosine in engine.similar(IDS[item], k)]
            ours = similar_items(model, item, k)
            assert [number for number, _ in ours] == [number for number, _ in theirs]
            assert np.allclose([cosine for _, cosine in ours], [cosine for _, cosine in theirs], 1e-6, 1e-7)


def test_wrong_numbers_are_refused() -> None:
    model = read_for_serving(path_of(BY_NAME["average"]))
    for item, k in ((-1, 3), (NUM_ITEMS, 3), (0, 0)):
        with pytest.raises(InputError):
            similar_items(model, item, k)
