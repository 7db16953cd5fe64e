"""The folder of a store on disk, and LMDB's environment in it: made, opened and checked."""

import fcntl
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import ModuleType

from recblr.errors import InputError
from recblr.serving.stores.log import sync_folder
from recblr.serving.stores.store import StoreError, package_missing

_LAYOUT = 1
ADDRESSES = 1 << 40  # bytes that LMDB may ever use; the file is only as large as its content
# LMDB may leave the last pages of its file unwritten, if they were made and freed at once.
_UNWRITTEN = 256


class Environment:
    """LMDB's environment of a folder.  A process may open it only once, so stores on one folder share it."""

    _open: dict[str, "Environment"] = {}  # noqa: RUF012
    _opening = Lock()

    @classmethod
    def open(cls, path: Path, addresses: int) -> "Environment":
        with cls._opening:
            name = f"{os.getpid()} {os.path.realpath(path)}"  # a fork must not use what its parent opened
            found = cls._open.get(name)
            if found is None:
                found = cls._open[name] = cls(path, name, addresses)
            elif found.asked != addresses:
                raise InputError(
                    f"the store {path} is open in this process with addresses={found.asked:,}",
                    "open it with the same number",
                )
            found.count += 1
            return found

    def __init__(self, path: Path, name: str, addresses: int) -> None:
        lmdb = lmdb_package()
        self.name, self.asked, self.addresses, self.count = name, addresses, addresses, 0
        # Held by the one that writes, and while LMDB is closed.  py-lmdb would mark an open transaction as
        # closed, and then wait for ever for its end.
        self.writing = Lock()
        file = path / "data.mdb"
        while True:
            try:
                self.env = lmdb.open(
                    str(path), map_size=self.addresses, max_dbs=4, max_readers=1024, readahead=False
                )
                break
            except lmdb.MemoryError:
                self.addresses //= 2  # the process may use only so much
                if self.addresses < 1 << 28:
                    raise cannot_use(path, MemoryError("too little address space")) from None
            except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError):
                raise StoreError(
                    f"{file} is damaged, or was written by another version of LMDB",
                    "restore a backup of all files",
                ) from None
            except lmdb.Error as error:
                if "already open in this process" in str(error):  # by the process before the fork
                    raise InputError(
                        f"the store {path} was open when this process was forked", "close it before the fork"
                    ) from None
                raise cannot_use(path, error) from None
        try:
            page = self.env.stat()["psize"]
            needed = (self.env.info()["last_pgno"] + 1) * page
            size = file.stat().st_size  # other processes may have made it longer, but not shorter
            if size % page or needed - size > _UNWRITTEN * page:
                raise StoreError(
                    f"{file} has {size:,} bytes, but needs {needed:,}", "restore a backup of the whole folder"
                )
            if size < needed:
                # LMDB would end the process when it reads behind the end of the file.
                with file.open("r+b") as opened:
                    os.posix_fallocate(opened.fileno(), 0, needed)
            names = ("meta", "users", "histories", "states")
            self.dbs = {name: self.env.open_db(name.encode()) for name in names}
        except lmdb.Error as error:
            self.env.close()
            raise cannot_use(path, error) from None
        except BaseException:
            self.env.close()
            raise

    def release(self) -> None:
        with self._opening:
            self.count -= 1
            if not self.count:
                del self._open[self.name]
                with self.writing:
                    self.env.close()


def prepare_folder(path: Path) -> bytes:
    """Make the folder of a new store, or check that of an old one.  Returns the id of the store."""
    missing = [parent for parent in path.parents if not parent.exists()]
    path.mkdir(0o700, parents=True, exist_ok=True)  # histories are for nobody else on the machine
    file = path / "store.json"
    # One of several processes that start together makes the store.
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            others = sorted(entry.name for entry in path.iterdir() if entry.name != "store.draft")
            if others:
                raise InputError(
                    f"{path} is not a store of recblr: it holds {others[0]}", "give a new or an empty folder"
                )
            draft = path / "store.draft"
            content = {"format": "recblr store", "layout": _LAYOUT, "id": secrets.token_hex(16)}
            with draft.open("w", encoding="utf-8") as written:
                json.dump(content, written)
                written.flush()
                os.fsync(written.fileno())
            draft.rename(file)
        # Also if the file is there: a process may have been killed right after it made the file.
        sync_folder(path)
        for folder in (path, *missing):
            with suppress(PermissionError):  # the user of the store may be unable to read it
                sync_folder(folder.parent)
    finally:
        os.close(lock)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        right = content["format"] == "recblr store" and len(bytes.fromhex(str(content["id"]))) == 16
        layout = content["layout"]
    except (ValueError, KeyError, TypeError):
        right, layout = False, None
    if right and layout != _LAYOUT:
        raise InputError(
            f"{path} has the layout {layout}, but this recblr knows only {_LAYOUT}", "install a later recblr"
        )
    if not right:
        raise StoreError(f"{file} is damaged", "restore a backup of the whole folder")
    return bytes.fromhex(str(content["id"]))


def lmdb_package() -> ModuleType:
    try:
        import lmdb
    except ModuleNotFoundError:
        raise package_missing("lmdb", "a store of the kind lmdb") from None
    return lmdb


def cannot_use(path: Path, error: Exception) -> StoreError:
    if type(error).__name__ in ("CorruptedError", "PageNotFoundError", "InvalidError", "PanicError"):
        return StoreError(
            f"{path / 'data.mdb'} is damaged, or could not be written before: {error}",
            "start again, and if that does not help, restore a backup of the whole folder",
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StoreError(
        f"cannot use the store {path}: {reason}", "make room, or make the folder writable, and try again"
    )
