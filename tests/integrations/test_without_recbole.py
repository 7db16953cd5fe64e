"""Without RecBole, the plug-in names it in one sentence, and the rest of the package still works."""

from __future__ import annotations

import importlib
import sys

import pytest
from integrations.recbole_example import recbole_example


def test_the_plug_in_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("recbole", "recbole.model", "recbole.model.abstract_recommender"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "recblr.integrations.recbole", raising=False)
    with pytest.raises(ImportError) as raised:
        importlib.import_module("recblr.integrations.recbole")
    message = str(raised.value)
    assert message.startswith(
        "recblr.integrations.recbole runs inside RecBole, which cannot be imported here"
    )
    assert "pip install 'recblr[recbole]'" in message
    assert "\n" not in message
    assert raised.value.__suppress_context__


def test_the_checkpoints_need_no_recbole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recbole", None)
    monkeypatch.delitem(sys.modules, "recblr.integrations.released", raising=False)
    assert callable(importlib.import_module("recblr.integrations.released").load_released)


def test_the_documentation_has_an_example_that_is_a_program() -> None:
    example = recbole_example()
    compile(example, "example.py", "exec")
    assert example.startswith("from recbole.quick_start import run_recbole\n")
    assert 'run_recbole(\n        model="RecBLR",' in example
