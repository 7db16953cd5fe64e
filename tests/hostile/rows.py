"""A row of a table of hostile input; it must give one sentence in time and change no file."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.command import SMALL, Seen, at, recblr
from training.tiny_runs import contents

HEADER = "user_id,item_id,timestamp\n"
# Nine users with up to nine items each.
ROWS = "".join(f"u{user},i{item},{item}\n" for user in range(9) for item in range(user % 3, 9))
TRAIN = ["--out", "run", *SMALL, "--epochs", "1"]
SECONDS = 20  # enough for a row on the slowest machine; an endless wait takes longer


def nothing(_: Path) -> None:
    """Nothing to prepare."""


@dataclass(frozen=True)
class Bad:
    """Words to type in a folder that `prepare` has filled, and the parts that the error must hold."""

    words: str | list[str]
    says: tuple[str, ...]
    prepare: Callable[[Path], object] = nothing
    run: bool = False  # whether the folder holds a finished run called `run`


def train(*words: str, says: tuple[str, ...], prepare: Callable[[Path], object] = nothing) -> Bad:
    return Bad(["train", *TRAIN, *words], says, prepare)


def text(content: str | bytes, name: str = "log.csv") -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def log(content: str | bytes, *says: str, words: tuple[str, ...] = (), name: str = "log.csv") -> Bad:
    """Training on a file of this content."""
    return train(name, *words, says=says, prepare=text(content, name))


@contextmanager
def in_time(seconds: int = SECONDS) -> Iterator[None]:
    """Fail if the block does not end in time."""

    def late(*_: object) -> None:
        raise AssertionError(f"it did not end within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def little_memory(extra: int = 6 << 30) -> Iterator[None]:
    """Limit the process to `extra` more bytes of addresses, so that it cannot fill the memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def assert_one_sentence(seen: Seen, says: tuple[str, ...]) -> None:
    assert seen.code == 2, seen
    assert seen.err.startswith("recblr: "), seen
    assert seen.err.count("\n") == 1, seen
    assert seen.err.endswith("\n")
    assert len(seen.err) < 2000
    assert seen.err[:-1].isprintable()
    assert "Traceback" not in seen.out + seen.err
    for part in says:
        assert part in seen.err, seen


def check(case: Bad, folder: Path, finished: Path) -> None:
    """Prepare the folder, type the words in it, and check the error and the files."""
    if case.run:
        shutil.copytree(finished, folder / "run")
    case.prepare(folder)
    before = contents(folder)
    with at(folder), in_time():
        seen = recblr(*(case.words.split() if isinstance(case.words, str) else case.words))
    assert_one_sentence(seen, case.says)
    assert contents(folder) == before
