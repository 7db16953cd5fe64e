"""The lock of a run's folder: one process holds it at a time, and it ends with the process."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from training.tiny_runs import tiny_config, tiny_dataset

from recblr.errors import InputError
from recblr.run.lock import LOCK_FILE, folder_lock
from recblr.training import Run, train

HOLD = """
import sys
from pathlib import Path
from recblr.run.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def refused(folder: Path) -> None:
    says = f"another process is training into {folder}; wait until it ends, or choose another --out"
    with pytest.raises(InputError) as raised, folder_lock(folder):
        pass
    assert str(raised.value) == says


def test_a_second_process_is_refused_until_the_first_releases_the_lock(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        refused(tmp_path)
        process.communicate("", timeout=60)
        assert not (tmp_path / LOCK_FILE).exists()
        with folder_lock(tmp_path):
            refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_kill_9_releases_the_lock_and_the_file_left_behind_locks_nothing(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        process.kill()
        process.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with folder_lock(tmp_path):
        refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_run_is_not_created_while_another_process_holds_the_lock(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path), pytest.raises(InputError, match="another process is training into"):
        train(tiny_dataset(), Run(tmp_path), tiny_config(epochs=1))
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


def test_a_lock_on_a_file_that_was_removed_meanwhile_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, calls = fcntl.flock, 0

    def late(descriptor: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            (tmp_path / LOCK_FILE).unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with folder_lock(tmp_path):
        assert calls == 2
        refused(tmp_path)


def test_training_works_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with folder_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_error_names_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()
    says = f"cannot write {tmp_path / LOCK_FILE}: Is a directory; choose another --out"
    with pytest.raises(InputError, match=says), folder_lock(tmp_path):
        pass
