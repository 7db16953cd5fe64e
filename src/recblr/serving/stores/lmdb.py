"""A store on the disk of one machine: a log of events, and LMDB for histories and states.

An event is acknowledged when it is durable in the log.  In the background, a fold moves events from the log
into LMDB, where the events of a user lie together.  Each process follows the log, and keeps in memory what is
not folded yet.
"""

import fcntl
import hashlib
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import pairwise, repeat
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recblr.errors import InputError
from recblr.serving.stores.lmdb_folder import ADDRESSES, Environment, cannot_use, lmdb_package, prepare_folder
from recblr.serving.stores.log import EventLog, Record, sync_folder
from recblr.serving.stores.memory import RememberedIds
from recblr.serving.stores.store import SPAN, Batch, History, StoreError

_PLACE = struct.Struct("<QQ")  # in the log, and the version that the next event gives there
_USER = struct.Struct("<QQ")  # the version of the first event, and of the last one that is folded
_STATE = struct.Struct("<32sQ")  # the model's hash and the version; the state follows
_CHUNK = struct.Struct("<II")  # checksum of all that follows, number of events
_FOLDED, _HAS_LOG = b"folded", b"has log"
# A fold of many events at once takes less time for each, and what is not folded takes memory.
_FOLD_EVENTS, _FOLD_MOST, _FOLD_SECONDS = 100_000, 200_000, 30.0
# The versions of the users' events before those of a group, and the newest version of each user in the group.
_Chained = tuple[list[int], dict[str, int]]
# Events of a user that lie together: versions, items and times.
_Chunk = tuple[NDArray[np.uint64], list[str], list[float]]
_SMALL_CHUNK = 4096  # bytes; the next fold adds events to a smaller chunk, and does not make another one
_BREATH = 32  # users between two moments in which a fold lets other threads run


class LMDBStore:
    """Keeps events and states in a folder, for the processes of one machine.

    The folder must be on a disk of this machine, and is made if it is missing.  docs/stores.md describes the
    files in it.  Ids of at least the newest 1,000,000 events are remembered.
    """

    local = True

    def __init__(self, path: str | os.PathLike[str], *, addresses: int = ADDRESSES) -> None:
        """Open a store, or make one in a new or an empty folder.

        addresses: the bytes of address space that LMDB may use: the most that histories and states may take.

        Raises InputError if the folder holds something else, is of another layout or is damaged, and
        StoreError if it cannot be written.
        """
        self.path = Path(path)
        self._closed = True
        self._pid = os.getpid()
        self._memory = RLock()  # of all that follows
        self._newest: dict[str, int] = {}  # the versions of users with events that are not folded
        # The events with the versions from _base on: the version of the user's event before, item and time.
        self._base = 1
        self._before: list[int] = []
        self._items: list[str] = []
        self._times: list[float] = []
        self._gone: dict[
            str, int
        ] = {}  # users -> the versions at which they were forgotten, until it is folded
        self._ids: RememberedIds | None = None  # None: not read yet
        self._prepared: tuple[Batch, bytes, _Chained] | None = None  # the next append, in its transaction
        self._fold_due = time.monotonic() + _FOLD_SECONDS
        try:
            store_id = prepare_folder(self.path)
            self._environment = Environment.open(self.path, addresses)
            self._closed = False
            self._env, self._dbs = self._environment.env, self._environment.dbs
            new = self._is_new(store_id)
            self._log = EventLog(self.path, store_id, new)
            if new:
                with self._txn(write=True) as txn:
                    txn.put(_HAS_LOG, b"1", db=self._dbs["meta"])
            self._restart()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise cannot_use(self.path, error) from None
            raise

    def _is_new(self, store_id: bytes) -> bool:
        """Whether the store is new.  Raises StoreError if LMDB's file is of another store."""
        with self._txn(write=True) as txn:
            kept = txn.get(b"id", db=self._dbs["meta"])
            if kept is None:
                txn.put(b"id", store_id, db=self._dbs["meta"])
                txn.put(_FOLDED, _PLACE.pack(0, 1), db=self._dbs["meta"])
            elif bytes(kept) != store_id:
                raise StoreError(
                    f"{self.path / 'data.mdb'} and {self.path / 'store.json'} are of two stores",
                    "restore a backup of all files",
                )
            return txn.get(_HAS_LOG, db=self._dbs["meta"]) is None

    # --- following the log ----------------------------------------------------------------------

    def _restart(self) -> None:
        """Forget what this process has read, and begin where the fold has come to."""
        for part in (self._newest, self._before, self._items, self._times, self._gone):
            part.clear()
        self._ids = None
        with self._txn() as txn:
            self._place, self._next = self._folded(txn)
        self._base = self._next
        if not min(self._log.places()) <= self._place <= self._log.end:
            raise StoreError(
                f"the log in {self.path} does not have the events after place {self._place:,}",
                "restore a backup of all files",
            )
        self._follow()

    def _folded(self, txn: Any) -> tuple[int, int]:
        place, version = _PLACE.unpack(txn.get(_FOLDED, db=self._dbs["meta"]))
        return place, version

    def _follow(self) -> None:
        """Read what was added to the log.  The caller holds the lock of the memory."""
        self._check_process()
        end = self._log.end
        if end == self._place:
            return
        try:
            for record in self._log.records(self._place, end):
                self._take(record)
            self._place = end  # the header of a new file may follow on the last record
        except LookupError:  # this process has slept so long that the file was folded and deleted
            self._restart()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise InputError(
                f"the store {self.path} was opened before a fork", "open it in each process, after the fork"
            )

    @contextmanager
    def _view(self, write: bool = False) -> Iterator[Any]:
        """A transaction of LMDB, and a memory that holds all that LMDB does not hold yet.

        The fold runs in another process, so the log is followed after the transaction has begun.
        """
        with ExitStack() as stack:
            if write:
                txn = stack.enter_context(self._txn(write=True))
                stack.enter_context(self._memory)
                self._follow()
            else:
                stack.enter_context(self._memory)
                base = -1
                while base != self._base:  # else the memory begins behind what LMDB had
                    base = self._base
                    txn = stack.enter_context(self._txn())
                    self._follow()
            yield txn

    def _chained(self, first: int, users: list[str]) -> _Chained:
        """How a group of events follows on those that the users have."""
        before = list(map(self._newest.get, users, repeat(0)))
        newest = dict(zip(users, range(first, first + len(users)), strict=True))
        if len(newest) < len(users):  # a user has several of these events
            newest.clear()
            for place, user in enumerate(users):
                if user in newest:
                    before[place] = newest[user]
                newest[user] = first + place
        return before, newest

    def _take(self, record: Record, chained: _Chained | None = None) -> None:
        """Take a record of the log into memory."""
        users, items, times, ids = record.batch
        if record.forgotten is not None:
            self._newest.pop(record.forgotten, None)
            self._gone[record.forgotten] = record.first
            items, times, chained = [""], [0.0], ([0], {})  # a version of no event
            if self._ids:
                self._ids.forget(record.next, record.forgotten)
        before, newest = chained or self._chained(record.first, users)
        self._before += before
        self._newest.update(newest)
        self._items += items
        self._times += times
        if ids and self._ids:
            self._ids.add(record.next, users, ids)
        self._place, self._next = record.end, record.next

    def _read_ids(self) -> None:
        """Read the ids of the newest events from the log, unless this is done."""
        while self._ids is None:
            ids, begin = RememberedIds(), min(self._log.places())
            with self._memory:
                end = self._place
            with suppress(LookupError):  # the oldest file was deleted meanwhile
                self._add_ids(ids, begin, end)  # this takes a second for a million, and others may read
                with self._memory:
                    self._add_ids(ids, end, self._place)
                    self._ids = ids

    def _add_ids(self, ids: RememberedIds, begin: int, end: int) -> None:
        for record in self._log.records(begin, end):
            if record.forgotten is not None:
                ids.forget(record.next, record.forgotten)
            elif record.batch.event_ids:
                ids.add(record.next, record.batch.users, record.batch.event_ids)

    def _prune(self) -> None:
        """Drop from memory the events that are folded by now."""
        with self._view() as txn:
            _, folded = self._folded(txn)
            count = folded - self._base
            if count > 0:
                del self._before[:count], self._items[:count], self._times[:count]
                self._base = folded
                # LMDB knows the others.  `prepare` reads without the lock, so these are new dictionaries.
                self._newest = {user: version for user, version in self._newest.items() if version >= folded}
                self._gone = {user: version for user, version in self._gone.items() if version >= folded}

    # --- adding events --------------------------------------------------------------------------

    @contextmanager
    def transaction(self, users: Sequence[str]) -> Iterator["LMDBStore"]:
        """As Store.transaction.  It holds the lock of the log, which all processes share."""
        self._check_process()
        with self._log.writing():
            self._prepared = None
            yield self

    def new(self, users: Sequence[str], event_ids: Sequence[str]) -> list[int]:
        """As Transaction.new."""
        while True:
            self._read_ids()
            with self._memory:
                self._follow()
                if self._ids is not None:  # else this process has begun anew
                    return self._ids.new(users, event_ids)

    def prepare(self, batch: Batch) -> None:
        """As Transaction.prepare."""
        with self._memory:
            self._follow()
        # Nobody else adds events meanwhile.
        self._prepared = batch, self._log.body(batch), self._chained(self._next, batch.users)

    def append(self, batch: Batch) -> int:
        """As Transaction.append."""
        if self._prepared is None or self._prepared[0] is not batch:
            self.prepare(batch)
        _, body, chained = self._prepared  # type: ignore[misc]
        self._prepared = None
        first, place = self._next, self._place
        end = self._log.append(first, batch, body)
        with self._memory:
            if self._place == place:  # else another thread has read the new record
                self._take(Record(first, batch, None, end), chained)
        return first

    def forget(self, user: str) -> bool:
        """As Store.forget."""
        self._check_process()
        with self._log.writing():
            with self._memory:
                known = self.version(user) > 0
                version = self._next
            if known:
                self._log.append_forget(version, user)
            return known

    # --- reading --------------------------------------------------------------------------------

    def version(self, user: str) -> int:
        """As Store.version."""
        return self.versions([user])[0]

    def versions(self, users: Sequence[str]) -> list[int]:
        """As Store.versions."""
        with self._memory:
            self._follow()
            found = list(map(self._newest.get, users))
            if None in found:
                with self._txn() as txn:
                    return [
                        self._user(txn, user)[1] if version is None else version
                        for user, version in zip(users, found, strict=True)
                    ]
            return found  # type: ignore[return-value]

    def _user(self, txn: Any, user: str) -> tuple[int, int]:
        """The versions of a user's first event and of the last one that is folded; zeros if nothing is."""
        kept = txn.get(user.encode(), db=self._dbs["users"])
        if kept is None:
            return 0, 0
        first, last = _USER.unpack(kept)
        return (first, last) if first > self._gone.get(user, 0) else (0, 0)

    def history(self, user: str, after: int = 0) -> History:
        """As Store.history."""
        items: list[str] = []
        times: list[float] = []
        with self._view() as txn:
            first, folded = self._user(txn, user)
            version = folded if folded >= first else 0
            if version > after:
                for versions, some_items, some_times in self._chunks(txn, user, first, after):
                    start = int(np.searchsorted(versions, after, "right"))
                    items += some_items[start:]
                    times += some_times[start:]
            recent = self._recent(user, max(after, folded))
            items += [self._items[number - self._base] for number in recent]
            times += [self._times[number - self._base] for number in recent]
            version = self._newest.get(user, version)
            if not first and version:
                first = self._recent(user, 0)[0]
        return History(version, items, times, after < first or not version)

    def _recent(self, user: str, after: int) -> list[int]:
        """The versions of a user's events after a version that are in memory, oldest first."""
        after, version, found = max(after, self._base - 1), self._newest.get(user, 0), []
        while version > after:
            found.append(version)
            version = self._before[version - self._base]
        return found[::-1]

    def _chunks(self, txn: Any, user: str, first: int, after: int) -> Iterator[_Chunk]:
        begin = first.to_bytes(8, "big")
        with txn.cursor(self._dbs["histories"]) as cursor:
            found = cursor.set_range(begin + (after + 1).to_bytes(8, "big"))
            while found and cursor.key()[:8] == begin:
                yield self._chunk(user, bytes(cursor.value()))
                found = cursor.next()

    def _chunk(self, user: str, data: bytes) -> _Chunk:
        checksum, count = _CHUNK.unpack_from(data)
        if zlib.crc32(data[4:]) != checksum:
            raise StoreError(
                f"{self.path / 'data.mdb'} is damaged: the history of user {user[:60]!r} cannot be read",
                "restore a backup of the whole folder",
            )
        versions = np.frombuffer(data, "<u8", count, _CHUNK.size)
        times = np.frombuffer(data, "<f8", count, _CHUNK.size + 8 * count)
        return versions, data[_CHUNK.size + 16 * count :].decode().split("\0"), times.tolist()

    def users(self) -> Iterator[str]:
        """As Store.users."""
        with self._memory:
            self._follow()
            recent = list(self._newest)
        yield from recent
        known, begin = set(recent), b"\0"
        while True:
            group: list[str] = []
            with self._view() as txn, txn.cursor(self._dbs["users"]) as cursor:
                found = cursor.set_range(begin)
                while found and len(group) < 1024:
                    group.append(bytes(cursor.key()).decode())
                    found = cursor.next()
                alive = [user for user in group if user not in known and self._user(txn, user)[1]]
            yield from alive
            if len(group) < 1024:
                return
            begin = group[-1].encode() + b"\0"

    # --- states ---------------------------------------------------------------------------------

    def state(self, user: str, model: str) -> tuple[int, bytes] | None:
        """As Store.state."""
        with self._memory:
            self._follow()
            with self._txn() as txn:
                first, _ = self._user(txn, user)
                kept = first and txn.get(first.to_bytes(8, "big"), db=self._dbs["states"])
                if not kept:
                    return None
                of, version = _STATE.unpack_from(kept)
                return (version, bytes(kept[_STATE.size :])) if of == _hash(model) else None

    def put_states(self, model: str, states: Mapping[str, tuple[int, bytes]]) -> None:
        """As Store.put_states."""
        if not states:
            return
        of = _hash(model)
        with self._view(write=True) as txn:
            for user, (version, state) in states.items():
                first, _ = self._user(txn, user)
                recent = [] if first else self._recent(user, 0)
                if recent:
                    # The fold finds this user as it would have made the entry itself.
                    if txn.get(user.encode(), db=self._dbs["users"]) is not None:
                        continue  # the user was forgotten, which is not folded yet
                    first = recent[0]
                    txn.put(user.encode(), _USER.pack(first, first - 1), db=self._dbs["users"])
                if not first or version < first:
                    continue
                key = first.to_bytes(8, "big")
                kept = txn.get(key, db=self._dbs["states"])
                if kept and _STATE.unpack_from(kept)[0] == of and _STATE.unpack_from(kept)[1] >= version:
                    continue
                txn.put(key, _STATE.pack(of, version) + state, db=self._dbs["states"])

    # --- in the background ----------------------------------------------------------------------

    def maintain(self) -> None:
        """Fold the log if many events or old ones wait, and drop what is folded from memory and the log."""
        self._env.reader_check()  # a process that was killed while it read would keep old pages for good
        self._read_ids()
        with self._memory:
            self._follow()
            waiting = len(self._items)
        if waiting >= _FOLD_EVENTS or time.monotonic() >= self._fold_due:
            self.fold()
        self._prune()

    def fold(self) -> None:
        """Move all events of the log to the histories, unless another process does so now."""
        try:
            file = (self.path / "fold").open("w")
        except OSError as error:
            raise cannot_use(self.path, error) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            while self._fold_some():
                pass
            self._fold_due = time.monotonic() + _FOLD_SECONDS
            self._delete_folded()
        self._prune()

    def _fold_some(self) -> bool:
        """Fold up to _FOLD_MOST events in one transaction.  Returns whether there are more."""
        end = self._log.end
        with self._txn() as txn:
            if self._folded(txn)[0] == end:
                return False
        with self._txn(write=True) as txn:
            # Not from the transaction above: if a writer was killed right after its commit, readers see the
            # state before it, until there is a writer again.
            place, version = self._folded(txn)
            columns: dict[str, tuple[list[int], list[float], list[str]]] = {}
            begin = version
            for record in self._log.records(place, end):
                if record.forgotten is not None:
                    columns.pop(record.forgotten, None)
                    self._fold_forgotten(txn, record.forgotten)
                users, items, times, _ = record.batch
                for number, user, item, moment in zip(
                    range(record.first, record.next), users, items, times, strict=False
                ):
                    if user not in columns:
                        columns[user] = ([], [], [])
                    versions, moments, names = columns[user]
                    versions.append(number)
                    moments.append(moment)
                    names.append(item)
                place, version = record.end, record.next
                if version - begin >= _FOLD_MOST:
                    break
            else:
                place = end  # the header of a new file may follow on the last record
            for number, (user, events) in enumerate(columns.items()):
                self._fold_user(txn, user, *events)
                if number % _BREATH == 0:
                    time.sleep(1e-4)
            txn.put(_FOLDED, _PLACE.pack(place, version), db=self._dbs["meta"])
        return place < end

    def _fold_user(
        self, txn: Any, user: str, versions: list[int], times: list[float], items: list[str]
    ) -> None:
        kept = txn.get(user.encode(), db=self._dbs["users"])
        first, last = _USER.unpack(kept) if kept else (versions[0], 0)
        begin = first.to_bytes(8, "big")
        newest = begin + last.to_bytes(8, "big")
        small = txn.get(newest, db=self._dbs["histories"])
        if small and len(small) < _SMALL_CHUNK:
            with suppress(StoreError):  # damage stays where it is, and is found when somebody reads it
                before = self._chunk(user, bytes(small))
                versions, items, times = (
                    [*before[0].tolist(), *versions],
                    before[1] + items,
                    before[2] + times,
                )
                txn.delete(newest, db=self._dbs["histories"])
        txn.put(user.encode(), _USER.pack(first, versions[-1]), db=self._dbs["users"])
        columns = np.asarray(versions, "<u8").tobytes() + np.asarray(times, "<f8").tobytes()
        data = len(versions).to_bytes(4, "little") + columns + "\0".join(items).encode()
        key = begin + versions[-1].to_bytes(8, "big")
        txn.put(key, zlib.crc32(data).to_bytes(4, "little") + data, db=self._dbs["histories"])

    def _fold_forgotten(self, txn: Any, user: str) -> None:
        kept = txn.get(user.encode(), db=self._dbs["users"])
        if not kept:
            return
        begin = _USER.unpack(kept)[0].to_bytes(8, "big")
        txn.delete(user.encode(), db=self._dbs["users"])
        txn.delete(begin, db=self._dbs["states"])
        with txn.cursor(self._dbs["histories"]) as cursor:
            found = cursor.set_range(begin)
            while found and cursor.key()[:8] == begin:
                found = cursor.delete() and bool(cursor.key())

    def _delete_folded(self) -> None:
        """Delete files of the log that are folded, and whose ids need not be remembered."""
        with self._txn() as txn:
            folded, version = self._folded(txn)
        places = self._log.places()
        for place, following in pairwise(places):
            if following > folded or self._log.first_version(following) > version - SPAN:
                return
            self._log.delete(place)

    # --- the rest -------------------------------------------------------------------------------

    def backup(self, folder: str | os.PathLike[str]) -> None:
        """Write a copy to a new folder, as of one moment, while the store is used.

        Raises InputError if the folder exists, and StoreError if it cannot be written.
        """
        target = Path(folder)
        try:
            target.mkdir(0o700, parents=True)
            with (self.path / "fold").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # the log keeps what the copy of LMDB does not have
                self._env.copy(str(target), compact=True)
                copied = {*self._log.names()[:-1]}  # they do not change any more
                for name in copied:
                    shutil.copyfile(self.path / name, target / name)
                with self._log.writing():
                    for name in {*self._log.names()} - copied:
                        shutil.copyfile(self.path / name, target / name)
            _sync(*target.iterdir())
            # The last: without this file, the folder is no store, so half a copy cannot be opened.
            shutil.copyfile(self.path / "store.json", target / "store.json")
            _sync(target / "store.json")
            sync_folder(target)
        except FileExistsError:
            raise InputError(f"{target} exists already", "give the path of a new folder") from None
        except (OSError, lmdb_package().Error) as error:
            raise cannot_use(target, error) from None

    def close(self) -> None:
        """As Store.close."""
        if hasattr(self, "_log"):
            self._log.close()
        if not self._closed:
            self._closed = True
            self._environment.release()

    def __enter__(self) -> "LMDBStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _txn(self, write: bool = False) -> Iterator[Any]:
        """A transaction of LMDB, whose errors are sentences."""
        lmdb = lmdb_package()
        try:
            with self._environment.writing if write else nullcontext(), self._env.begin(write=write) as txn:
                yield txn
        except lmdb.MapFullError:
            raise StoreError(
                f"the store {self.path} has used its {self._environment.addresses:,} bytes of address space",
                "open it with a larger addresses=",
            ) from None
        except lmdb.Error as error:
            raise cannot_use(self.path, error) from None


def _sync(*files: Path) -> None:
    for file in files:
        with file.open("rb") as written:
            os.fsync(written.fileno())


def _hash(model: str) -> bytes:
    return hashlib.sha256(model.encode()).digest()
