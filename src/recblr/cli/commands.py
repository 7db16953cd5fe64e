"""All commands: importing the module of a command registers it."""

from recblr.cli import (
    compare,
    doctor,
    download,
    embeddings,
    evaluate,
    export,
    recommend,
    reproduce,
    serve,
    similar,
    synth,
    train,
)

__all__ = [
    "compare",
    "doctor",
    "download",
    "embeddings",
    "evaluate",
    "export",
    "recommend",
    "reproduce",
    "serve",
    "similar",
    "synth",
    "train",
]
