"""The examples of docs/contributing.md."""

from __future__ import annotations

from recblr.config.option import options


def test_an_option() -> None:
    # [option]
    from dataclasses import dataclass

    from recblr.config.option import option

    @dataclass(frozen=True)
    class TrainingConfig:
        label_smoothing: float = option("loss", 0.0, "Share of each target that all items get.")

    # [/option]
    (made,) = options(TrainingConfig)
    assert (made.key, made.table, made.type, made.default) == ("label-smoothing", "loss", float, 0.0)
    assert made.fixed
