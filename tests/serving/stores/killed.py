"""A process that forks when it is told to; the children add events to a store until they are killed.

Its imports take half a second, and a fork takes a millisecond.  So hundreds of children can be killed.

Run: python -m serving.stores.killed STORE MODEL FOLDER
For each line "NUMBER" on its input it prints the id of the process of a new child, and for "wait PID" it
waits for the end of one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from recblr import Engine
from recblr.serving import Service, open_store
from recblr.serving import service as service_module
from recblr.serving.stores import lmdb, log, memory

USERS = [f"user{number}" for number in range(6)]
FORGET_EVERY, RETRY_EVERY = 7, 5
Event = tuple[str, str, float, str]


def often() -> None:
    """Make rare things frequent: new files, folds, deleted files, states."""
    log._FILE_BYTES = 4096
    lmdb._FOLD_EVENTS = 60
    # More than a process adds between the death of the other one and its own: then the test sends again what
    # was not acknowledged.
    lmdb.SPAN = memory.SPAN = 5_000
    service_module._STATE_EVERY = 4


def group(child: int, number: int) -> list[Event]:
    """A group of events of a child: (user, item, time, id).  The time names the event."""
    events = []
    for at in range(1 + number * 7 % 20):
        user = f"own{child}" if at == 0 else USERS[(child + number * at) % len(USERS)]
        events.append(
            (user, f"i{(number + at) % 20}", child * 1e6 + number * 32.0 + at, f"{child} {number} {at}")
        )
    return events


def send(service: Service, events: list[Event]) -> int:
    users, items, times, ids = (list(column) for column in zip(*events, strict=True))
    return service.update_many(users, items, times=times, event_ids=ids)


def add_until_killed(address: str, model: str, folder: Path, child: int) -> None:
    """Write "begin N", "end N" and the same for a forgotten user into a file around each call."""
    file = os.open(folder / f"{child}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    service = Service(Engine.load(model, threads=1), open_store(address), write_behind=0.003)
    number = 0
    while True:
        os.write(file, b"begin\n")
        counted = send(service, group(child, number))
        os.write(file, b"end\n")
        if counted != len(group(child, number)):
            os.write(file, b"a new event did not count\n")
        if number % RETRY_EVERY == 0 and send(service, group(child, number)):
            os.write(file, b"an event counted twice\n")
        if number % FORGET_EVERY == FORGET_EVERY - 1:
            os.write(file, b"begin to forget\n")
            service.forget(f"own{child}")
            os.write(file, b"end of forgetting\n")
        number += 1


def main() -> None:
    address, model, folder = sys.argv[1:]
    often()
    for line in sys.stdin:
        if line.startswith("wait"):
            os.waitpid(int(line.split()[1]), 0)
            print("ended", flush=True)
        elif child := os.fork():
            print(child, flush=True)
        else:
            try:
                add_until_killed(address, model, Path(folder), int(line))
            except BaseException as error:
                with (Path(folder) / line.strip()).open("a") as file:
                    file.write(f"failed: {error!r}\n")
            os._exit(1)


if __name__ == "__main__":
    main()
