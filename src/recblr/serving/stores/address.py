"""Opens a store by its address.  Its package is imported only then: lmdb, or redis."""

from recblr.errors import InputError
from recblr.serving.stores.lmdb import LMDBStore
from recblr.serving.stores.memory import MemoryStore
from recblr.serving.stores.redis import RedisStore
from recblr.serving.stores.store import Store


def open_store(address: str) -> Store:
    """Open a store: ``memory``, ``lmdb:PATH`` (a folder; it is made) or ``redis://HOST:PORT/NUMBER``.

    Raises InputError for another address, a missing package, and a store that cannot be used.
    """
    kind, _, path = address.partition(":")
    if address == "memory":
        return MemoryStore()
    if kind == "lmdb" and path:
        return LMDBStore(path)
    if kind in ("redis", "rediss", "unix"):
        return RedisStore(address)
    raise InputError(
        f"the store {address!r} is of no known kind", "give memory, lmdb:PATH or redis://HOST:PORT/0"
    )
