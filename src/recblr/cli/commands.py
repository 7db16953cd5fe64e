"""All commands: importing the module of a command registers it."""

from recblr.cli import (
    doctor,
    download,
    embeddings,
    evaluate,
    export,
    recommend,
    reproduce,
    similar,
    synth,
    train,
)

__all__ = [
    "doctor",
    "download",
    "embeddings",
    "evaluate",
    "export",
    "recommend",
    "reproduce",
    "similar",
    "synth",
    "train",
]
