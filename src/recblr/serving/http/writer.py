"""Group commit: one thread makes all events that wait durable at once, because a disk syncs once for all."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from recblr.errors import InputError
from recblr.serving.http.messages import ApiError
from recblr.serving.http.metrics import Metrics
from recblr.serving.stores.store import StoreError

if TYPE_CHECKING:
    from recblr.serving.service import Service

GROUP = 1_024  # events that are committed together; a request is never divided
_MOST_WAITING = 100_000  # events; beyond that a client must come again later


class _Job(NamedTuple):
    """The events of a request, and where its answer goes."""

    users: Sequence[str]
    items: Sequence[str]
    times: Sequence[float | None]
    event_ids: Sequence[str | None]
    answer: "asyncio.Future[int]"


class Writer:
    """Takes the events of requests and answers once they are durable.

    Its methods are called from the thread of the event loop.  A thread of its own commits.
    """

    def __init__(self, service: "Service", metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._jobs: deque[_Job] = deque()
        self._waiting = 0  # events
        self._some = threading.Condition()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="recblr group commit", daemon=True)
        self._thread.start()

    async def add(
        self,
        users: Sequence[str],
        items: Sequence[str],
        times: Sequence[float | None],
        event_ids: Sequence[str | None],
    ) -> int:
        """Return how many of these N events counted, once they are durable.

        Raises what the service raises for them, and ApiError if too many events wait.
        """
        job = _Job(users, items, times, event_ids, self._loop.create_future())
        with self._some:
            if self._closed or self._waiting + len(users) > _MOST_WAITING:
                raise ApiError(
                    "unavailable",
                    "the server stops"
                    if self._closed
                    else "too many events wait to be written; send them again",
                    headers={"retry-after": "1"},
                )
            self._waiting += len(users)
            self._jobs.append(job)
            self._some.notify()
        return await job.answer

    def close(self) -> None:
        """Commit what waits, and end the thread."""
        with self._some:
            self._closed = True
            self._some.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next_group():
            started = perf_counter()
            answers = self._commit(jobs)
            seconds = perf_counter() - started
            self._loop.call_soon_threadsafe(self._answer, jobs, answers, seconds)
            del jobs, answers  # the traceback of an error holds the engine, which may be replaced meanwhile

    def _next_group(self) -> list[_Job]:
        """The jobs that come next; empty at the end."""
        with self._some:
            self._some.wait_for(lambda: self._jobs or self._closed)
            jobs: list[_Job] = []
            size = 0
            while self._jobs and (not jobs or size + len(self._jobs[0].users) <= GROUP):
                jobs.append(self._jobs.popleft())
                size += len(jobs[-1].users)
            self._waiting -= size
            return jobs

    def _commit(self, jobs: Sequence[_Job]) -> list[int | Exception]:
        """For each job how many events counted, or why it failed."""
        try:
            counted = self._service.update_each(
                [user for job in jobs for user in job.users],
                [item for job in jobs for item in job.items],
                times=[time for job in jobs for time in job.times],
                event_ids=[event_id for job in jobs for event_id in job.event_ids],
            )
        except StoreError as error:
            return [error] * len(jobs)
        except InputError as error:
            if len(jobs) == 1:
                return [error]
            # A wrong request must not spoil the others.  Halves find it with few commits.
            middle = len(jobs) // 2
            return self._commit(jobs[:middle]) + self._commit(jobs[middle:])
        except Exception as error:  # nothing was acknowledged: every request is told why
            return [error] * len(jobs)
        sums, start = [], 0
        for job in jobs:
            sums.append(sum(counted[start : start + len(job.users)]))
            start += len(job.users)
        return [*sums]

    def _answer(self, jobs: Sequence[_Job], answers: Sequence[int | Exception], seconds: float) -> None:
        accepted = events = 0
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, int):
                accepted, events = accepted + answer, events + len(job.users)
            if job.answer.done():  # the client has gone
                continue
            if isinstance(answer, int):
                job.answer.set_result(answer)
            else:
                job.answer.set_exception(answer)
        if events:
            self._metrics.committed(accepted, events - accepted, seconds)
