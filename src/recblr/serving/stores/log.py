"""The log of events of a store on disk: files that only grow, shared by the processes of one machine.

A record is a group of events.  It is durable after one wait for the disk.  A commit of LMDB waits twice, so
the log is not in LMDB.  A file has its room from the start, filled with zeros: to write where there is room
takes a fraction of the time that it takes to make a file longer.

Places in the log are bytes since the first record ever.  A file holds the bytes from the place in its name
on.  The file `end` holds the place up to which records are durable, the place where the last file begins,
whether a file is being made, and the place of a record that was refused and could not be removed.  All
processes map it: a look at it is the cheap way to learn of new events.  Only bytes before the first of these
places are read, so no process counts an event that may still be lost.
"""

import fcntl
import mmap
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, RLock
from typing import NamedTuple
from weakref import WeakSet

import numpy as np

from recblr.errors import InputError
from recblr.serving.stores.store import Batch, StoreError

_FILE = struct.Struct(
    "<8s16sQQII"
)  # magic, id of the store, place, version of the next event, layout, checksum
_RECORD = struct.Struct("<4sIIIQQ")  # magic, checksum of all that follows, size, events, first version, kind
_MAGIC, _MARK, _LAYOUT = b"recblrLG", b"\xf5rec", 1  # no text in UTF-8 has the byte f5
_EVENTS, _WITH_IDS, _FORGET = 0, 1, 2
_FILE_BYTES = 16 << 20  # of a file; the next record goes into a new one, unless it is itself larger
_READ_BYTES = 4 << 20
_MOST_BYTES = 1 << 30  # of a record
_open_logs: "WeakSet[EventLog]" = WeakSet()


class Record(NamedTuple):
    """A group of events, or a user who was forgotten."""

    first: int  # the version that the first event gives; each later event gives the next number
    batch: Batch  # empty if a user was forgotten
    forgotten: str | None
    end: int  # the place behind the record

    @property
    def next(self) -> int:
        """The version that the event after this record gives."""
        return self.first + (len(self.batch.users) or 1)


class EventLog:
    """The log in a folder.  One thread of one process writes at a time, and all may read."""

    def __init__(self, folder: Path, store_id: bytes, new: bool) -> None:
        """Open the log.  new: make it if there is none.  Raises StoreError."""
        self.folder, self._id = folder, store_id
        self._mutex = Lock()
        self._opening = RLock()  # no thread reads a file while another closes it
        self._files: dict[int, int] = {}  # place -> descriptor of the file that begins there
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with self._exclusive():
                self._map_end()
                self.places()
                if not self._files:
                    if not new:
                        raise StoreError(f"the log in {folder} is missing", "restore a backup of all files")
                    self._begin_file(0, 1)
                self._repair()
        except BaseException:
            self.close()
            raise
        _open_logs.add(self)

    # --- reading --------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The place up to which all is durable."""
        return self._end[0]

    def places(self) -> list[int]:
        """The places where the files begin, ascending.  Sees what others have made or deleted."""
        with self._opening, self._reading():
            found = {int(name[7:-4], 16): name for name in os.listdir(self.folder) if _is_log(name)}
            for place in self._files.keys() - found.keys():
                os.close(self._files.pop(place))
            for place in found.keys() - self._files.keys():
                with suppress(FileNotFoundError):  # deleted meanwhile
                    self._files[place] = os.open(self.folder / found[place], os.O_RDWR | os.O_CLOEXEC)
            return sorted(self._files)

    def records(self, begin: int, end: int) -> Iterator[Record]:
        """The records between two places; `begin` is 0, the end of a record or the beginning of a file.

        Raises LookupError if the file with `begin` was deleted, and StoreError if a record is damaged.
        """
        for place, size in self._pieces(begin, end):
            for at, header, body in self._raw(place, size):
                yield _record(header, body, at + _RECORD.size + len(body))

    def names(self) -> list[str]:
        """The names of the log's files, oldest first."""
        return [_name(place) for place in self.places()]

    def first_version(self, place: int) -> int:
        """The version that the first event of a file gives."""
        return self._header(place)[3]

    def delete(self, place: int) -> None:
        """Delete the file that begins at a place."""
        try:
            (self.folder / _name(place)).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(self.folder / _name(place), error) from None

    def _pieces(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """(begin, end) of the parts of a range that lie in one file each, without the files' headers."""
        while begin < end:
            with self._opening:
                known = sorted(self._files)
            place = max((p for p in known if p <= begin), default=None)
            stop = min((p for p in known if p > begin), default=None)
            if place is None or (stop is None and place < self._end[1]):
                if self.places() == known:
                    raise LookupError(begin)
                continue
            begin = max(begin, place + _FILE.size)
            yield begin, min(end, stop or end)
            begin = min(end, stop or end)

    def _raw(self, begin: int, end: int, whole: bool = True) -> Iterator[tuple[int, tuple[int, ...], bytes]]:
        """(place, header, body) of the records between two places of one file.

        whole: a damaged record is an error.  Otherwise it ends the iteration.
        """
        place = max((p for p in list(self._files) if p <= begin), default=-1)
        data, start = b"", begin  # the bytes from `start` on
        while begin < end:
            for part in ("header", "body"):
                size = _RECORD.size if part == "header" else _RECORD.unpack_from(data, begin - start)[2]
                if start + len(data) < begin + size <= end:
                    data, start = self._part(place, begin, min(max(size, _READ_BYTES), end - begin)), begin
                if start + len(data) < begin + size:
                    break
            at = begin - start
            if not _is_record(data, at):
                if whole:
                    raise self._damaged(place, begin)
                return
            header = _RECORD.unpack_from(data, at)
            yield begin, header, data[at + _RECORD.size : at + header[2]]
            begin += header[2]

    def _part(self, place: int, begin: int, size: int) -> bytes:
        """Some bytes of the file that begins at a place."""
        with self._opening, self._reading():
            if place not in self._files:
                raise LookupError(begin)
            return os.pread(self._files[place], size, begin - place)

    def _header(self, place: int) -> tuple[bytes, bytes, int, int, int, int]:
        data = self._part(place, place, _FILE.size)
        if len(data) < _FILE.size or not data.startswith(_MAGIC):
            raise self._damaged(place, place)
        header = _FILE.unpack(data)
        if header[4] != _LAYOUT:
            raise InputError(
                f"{self.folder / _name(place)} has the layout {header[4]}, but this recblr knows {_LAYOUT}",
                "install a later recblr",
            )
        if header[5] != zlib.crc32(data[:-4]) or header[2] != place:
            raise self._damaged(place, place)
        if header[1] != self._id:
            raise StoreError(
                f"{self.folder / _name(place)} is of another store", "restore a backup of all files"
            )
        return header

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot read the log in {self.folder}: {error.strerror}",
                "make the folder readable, and try again",
            ) from None

    def _damaged(self, place: int, at: int) -> StoreError:
        return StoreError(
            f"{self.folder / _name(place)} is damaged at byte {at - place:,}, and events are lost",
            "restore a backup of the whole folder",
        )

    # --- writing --------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep all other threads and processes from writing."""
        with self._mutex, self._exclusive():
            end, last, making, refused = self._end
            if making or refused or last not in self._files or any(self._part(last, end, _RECORD.size)):
                self._repair()
            yield

    @staticmethod
    def body(batch: Batch) -> bytes:
        """The part of a group's record that depends on the group only."""
        columns = batch.users + batch.items + (batch.event_ids or [])
        text = "\0".join(columns)
        if text.count("\0") != len(columns) - 1:
            raise InputError("an id holds the character NUL", "give ids without it")
        times = array("d", batch.times).tobytes()
        return times + text.encode()

    def append(self, first: int, batch: Batch, body: bytes) -> int:
        """Write a group of events, within :meth:`writing`.  Durable when it returns.  Returns the new end."""
        kind = _EVENTS if batch.event_ids is None else _WITH_IDS
        return self._write(kind, first, len(batch.users), body)

    def append_forget(self, version: int, user: str) -> int:
        """Write that a user was forgotten.  As :meth:`append`."""
        return self._write(_FORGET, version, 1, user.encode())

    def _write(self, kind: int, first: int, count: int, body: bytes) -> int:
        end, last, *_ = self._end
        if len(body) > _MOST_BYTES:
            raise InputError(f"a group of {count:,} events takes {len(body):,} bytes", "give smaller groups")
        if end - last > _FILE.size and end - last + _RECORD.size + len(body) > _FILE_BYTES:
            self._end[2] = 1  # so that the next writer looks for the file if this one is killed
            self._begin_file(end, first)
            self._end[1], self._end[0], self._end[2] = end, end + _FILE.size, 0
            last, end = end, end + _FILE.size
        rest = struct.pack("<IIQQ", _RECORD.size + len(body), count, first, kind) + body
        data = _MARK + zlib.crc32(rest).to_bytes(4, "little") + rest
        file = self._files[last]
        try:
            _write_all(file, data, end - last)
            os.fdatasync(file)
        except OSError as error:
            # What was written of the record must not become part of the log later.
            try:
                _clear(file, end - last)
            except OSError:
                with suppress(OSError):
                    self._refuse(end)
            raise _cannot_write(self.folder / _name(last), error) from None
        self._end[0] = end + len(data)
        return end + len(data)

    def _begin_file(self, place: int, version: int) -> None:
        header = _FILE.pack(_MAGIC, self._id, place, version, _LAYOUT, 0)[:-4]
        path, draft = self.folder / _name(place), self.folder / "next.draft"
        try:
            with draft.open("wb") as file:
                file.write(header + zlib.crc32(header).to_bytes(4, "little"))
                file.flush()
                os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
                os.fsync(file.fileno())
            with self._opening:  # else places() in another thread would not find the file, and close it
                draft.rename(path)
                self._files[place] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            sync_folder(self.folder)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise _cannot_write(path, error) from None

    def _repair(self) -> None:
        """Look at what a killed writer has left: whole records count, and the beginning of one is cut off."""
        last = self.places()[-1]
        self._header(last)
        file = self._files[last]
        begin, stop = max(self.end, last + _FILE.size), last + os.fstat(file).st_size
        if stop < begin:
            raise self._damaged(last, stop)
        end, refused = begin, self._end[3] == begin
        if not refused:
            for place, header, _ in self._raw(begin, stop, whole=False):
                end = place + header[2]
        rest = self._part(last, end, stop - end)
        if not refused and _holds_record(rest):
            raise self._damaged(last, end)
        try:
            if rest.count(0) < len(rest):
                _clear(file, end - last)
            os.fdatasync(file)
            sync_folder(self.folder)  # a writer may have been killed right after it made a file
            if self._end[3]:
                self._refuse(0)
        except OSError as error:
            raise _cannot_write(self.folder / _name(last), error) from None
        self._end[1], self._end[0], self._end[2] = last, end, 0

    def _refuse(self, place: int) -> None:
        """Note at which place a refused record stayed; 0 for none.  Durable when it returns.

        Else the note could outlive a crash, and an event that was acknowledged at that place since then would
        be taken for the refused one.
        """
        file = os.open(self.folder / "end", os.O_RDWR | os.O_CLOEXEC)
        try:
            _write_all(file, struct.pack("Q", place), 24)  # a write through the map could end the process
            os.fsync(file)
        finally:
            os.close(file)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        # The system lets go of this lock when the process ends, however it ends.
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _map_end(self) -> None:
        file = os.open(self.folder / "end", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if os.fstat(file).st_size != 32:
                os.ftruncate(file, 0)
                _write_all(file, bytes(32), 0)  # _repair finds the end
            self._end = memoryview(mmap.mmap(file, 32)).cast("Q")
        except OSError as error:
            raise _cannot_write(self.folder / "end", error) from None
        finally:
            os.close(file)

    def close(self) -> None:
        """Close all files."""
        for file in [*self._files.values(), self._lock]:
            with suppress(OSError):
                os.close(file)
        self._files, self._lock = {}, -1


def _let_go_after_a_fork() -> None:
    """Close what a child has of its parent's locks, which would outlive the parent if it is killed."""
    for log in _open_logs:
        log.close()


os.register_at_fork(after_in_child=_let_go_after_a_fork)


def sync_folder(folder: Path) -> None:
    """Make new and renamed files of a folder durable."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _name(place: int) -> str:
    return f"events-{place:016x}.log"


def _is_log(name: str) -> bool:
    return name.startswith("events-") and name.endswith(".log") and len(name) == 27


def _write_all(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _clear(file: int, size: int) -> None:
    """Fill a file with zeros from a size on, durably."""
    os.ftruncate(file, size)
    os.posix_fallocate(file, 0, max(_FILE_BYTES, size))
    os.fdatasync(file)


def _holds_record(data: bytes) -> bool:
    at = data.find(_MARK, 1)
    while at >= 0 and not _is_record(data, at):
        at = data.find(_MARK, at + 1)
    return at >= 0


def _is_record(data: bytes, at: int) -> bool:
    """Whether a whole record begins at a byte."""
    if len(data) - at < _RECORD.size:
        return False
    mark, checksum, size, *_ = _RECORD.unpack_from(data, at)
    whole: bool = mark == _MARK and _RECORD.size <= size <= len(data) - at
    return whole and zlib.crc32(data[at + 8 : at + size]) == checksum


def _record(header: tuple[int, ...], body: bytes, end: int) -> Record:
    _, _, _, count, first, kind = header
    if kind == _FORGET:
        return Record(first, Batch([], [], []), body.decode(), end)
    times = np.frombuffer(body, "<f8", count).tolist()
    texts = body[8 * count :].decode().split("\0")
    ids = texts[2 * count :] if kind == _WITH_IDS else None
    return Record(first, Batch(texts[:count], texts[count : 2 * count], times, ids), None, end)


def _cannot_write(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror}", "make room, or make the folder writable, and try again"
    )
