"""What a notebook and a terminal show."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from recommender.shop import NAMES, SMALL, pandas_log

from recblr import Recommender


class Shown(list[str]):
    """Stands for IPython in a notebook, and keeps what is shown."""

    def update(self, html: str) -> None:
        self.append(html)

    def display(self, html: str, *, display_id: bool) -> Shown:
        assert display_id
        self.append(html)
        return self


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown = Shown()
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    display: Any = types.ModuleType("IPython.display")
    display.HTML, display.display = str, shown.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_a_bar_in_a_notebook(notebook: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    Recommender().fit(pandas_log(), **NAMES, **{**SMALL, "epochs": 2})
    last = notebook[-1]
    value, most = (last.split(f'{name}="')[1].split('"')[0] for name in ("value", "max"))
    assert value == most
    assert "epoch 2/2" in last
    assert "epoch   1  loss" in last
    assert "epoch   2  loss" in last
    assert capsys.readouterr() == ("", "")


def test_it_can_be_turned_off(notebook: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    Recommender().fit(pandas_log(), **NAMES, **SMALL, progress=False)
    assert notebook == []
    assert capsys.readouterr() == ("", "")


def test_a_program_prints_only_if_it_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Recommender().fit(pandas_log(), **NAMES, **SMALL)
    assert capsys.readouterr() == ("", "")
    Recommender().fit(pandas_log(), **NAMES, **SMALL, progress=True)
    assert capsys.readouterr().out.startswith("epoch   1  loss")


def test_a_report_is_its_tables(shop: Recommender) -> None:
    report = shop.evaluate()
    html, text = report._repr_html_(), str(report)  # type: ignore[attr-defined]
    figure = f"{report['ours']['test']['masked']['ndcg@10']['mean']:.4f}"
    for shown in (html, text):
        assert figure in shown
        assert "RecBLR" in shown
        assert "popular" in shown
        assert "beyond simple" in shown
    assert html.startswith("<pre")
    assert "\x1b" not in text
    assert "validation item" in str(shop.evaluate("valid"))


def test_describe_and_repr(shop: Recommender) -> None:
    assert repr(shop) == "<recblr.Recommender of 60 users and 129 items, recblr>"
    assert "model         recblr, width 16, 1 layers" in shop.describe()
    assert "by the engine, in frames of pandas" in shop.describe()
