"""Several processes on one store: each answers with what the others have had acknowledged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving.engines import BY_NAME, IDS, fresh, path_of
from serving.stores.places import kinds, server

from recblr.serving import Service, open_store

TESTS = Path(__file__).parents[1]

# Adds an event for each line, "USER ITEM TIME", and prints the user's items and the two best.
OTHER = """
import sys
from recblr import Engine
from recblr.serving import Service, open_store
serving = Service(Engine.load(sys.argv[1], threads=1), open_store(sys.argv[2]))
for line in sys.stdin:
    user, item, time = line.split()
    serving.update(user, item, time=float(time))
    print(serving.history(user)[0], serving.recommend(user, 2, mask_seen=False), flush=True)
serving.close()
"""


@pytest.mark.parametrize("kind", kinds("lmdb", "redis"))
def test_each_process_sees_what_the_other_has_had_acknowledged(kind: str, tmp_path: Path) -> None:
    if kind == "redis":
        with server() as redis:
            take_turns(redis.address)
    else:
        take_turns(f"lmdb:{tmp_path / 'store'}")


def take_turns(address: str) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, path_of(BY_NAME["request"]), address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])},
    )  # fmt: skip
    assert other.stdin
    assert other.stdout
    engine = fresh("request", threads=1)
    histories: dict[str, list[str]] = {}
    with Service(fresh("request", threads=1), open_store(address), write_behind=0.05) as serving:
        for number in range(40):
            user, time = f"user{number % 3}", 1.7e9 + number
            for item in (IDS[number % 7], IDS[number % 5]):
                histories.setdefault(user, []).append(item)
                engine.update(user, item, time=time)
            serving.update(user, IDS[number % 7], time=time)
            other.stdin.write(f"{user} {IDS[number % 5]} {time}\n")
            other.stdin.flush()
            best = engine.recommend(user, 2, mask_seen=False)
            assert other.stdout.readline().strip() == f"{histories[user]} {best}"
            assert serving.recommend(user, 2, mask_seen=False) == best
            if number % 13 == 12:
                assert serving.forget(user)
                engine.forget(user)
                histories.pop(user)
    other.stdin.close()
    assert other.wait(30) == 0
