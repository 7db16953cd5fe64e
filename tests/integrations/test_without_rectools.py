"""Without RecTools, the adapter names it in one sentence."""

from __future__ import annotations

import importlib
import sys

import pytest


def test_the_adapter_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rectools", "rectools.dataset", "rectools.models.base"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "recblr.integrations.rectools", raising=False)
    with pytest.raises(ImportError) as raised:
        importlib.import_module("recblr.integrations.rectools")
    message = str(raised.value)
    assert message.startswith(
        "recblr.integrations.rectools works with RecTools, which cannot be imported here"
    )
    assert "pip install 'recblr[rectools]'" in message
    assert "\n" not in message
