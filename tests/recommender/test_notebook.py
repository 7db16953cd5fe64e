"""What a notebook and a terminal show."""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from recommender.shop import NAMES, SMALL, START, pandas_log

import recblr
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


def test_rare_users_are_not_dropped_without_a_word(tmp_path: Path) -> None:
    log = pandas_log()
    log = pd.concat(
        [log, pd.DataFrame({"uid": [900] * 3, "sku": log["sku"][:3], "ts": [START, START, START]})]
    )
    with pytest.warns(
        UserWarning,
        match=r"fit drops \d+ events of users or items with fewer than 5 events; k_core=0 keeps",
    ):
        recommender = Recommender().fit(log, **NAMES, **SMALL)
    assert "900" not in recommender.dataset.user_ids
    said = f"fit           read {len(log):,} events, dropped "
    assert said in recommender.describe()
    recommender.save(tmp_path / "saved")
    assert Recommender.load(tmp_path / "saved").describe() == recommender.describe()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Recommender().fit(log, **NAMES, **SMALL, k_core=5)
        Recommender().fit(log, **NAMES, **SMALL, k_core=0)


def test_the_report_has_the_whole_call(tmp_path: Path) -> None:
    recommender = Recommender().fit(pandas_log(), **NAMES, **SMALL, k_core=0, valid=0.5)
    log = pandas_log()
    call = str(recommender.run.facts()["command"])
    again = eval(call, {"recblr": recblr, "data": log})
    assert again.run.model_file.read_bytes() == recommender.run.model_file.read_bytes()


def test_describe_and_repr(shop: Recommender) -> None:
    assert repr(shop) == "<recblr.Recommender of 60 users and 129 items, recblr>"
    assert "model         recblr, width 16, 1 layers" in shop.describe()
    assert "by the engine, in frames of pandas" in shop.describe()
