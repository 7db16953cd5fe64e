"""The examples of docs/extending.md."""

from __future__ import annotations

from recblr.config.option import options


def test_an_option() -> None:
    # [option]
    from dataclasses import dataclass

    from recblr.config.option import option

    @dataclass(frozen=True)
    class TrainingConfig:
        temperature: float = option("loss", 1.0, "What all scores are divided by.")

    # [/option]
    (made,) = options(TrainingConfig)
    assert (made.key, made.table, made.type, made.default) == ("temperature", "loss", float, 1.0)
    assert made.fixed
