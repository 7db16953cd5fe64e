"""Opens a store by its address."""

from recblr.errors import InputError
from recblr.serving.stores.store import Store


def open_store(address: str) -> Store:
    """Open a store: ``memory``, ``lmdb:PATH`` (a folder; it is made) or ``redis://HOST:PORT/NUMBER``.

    Raises InputError for another address, a missing package, and a store that cannot be used.
    """
    # A store that is not used must not need its package.
    kind, _, path = address.partition(":")
    if address == "memory":
        from recblr.serving.stores.memory import MemoryStore

        return MemoryStore()
    if kind == "lmdb" and path:
        from recblr.serving.stores.lmdb import LMDBStore

        return LMDBStore(path)
    if kind in ("redis", "rediss", "unix"):
        from recblr.serving.stores.redis import RedisStore

        return RedisStore(address)
    raise InputError(
        f"the store {address!r} is of no known kind", "give memory, lmdb:PATH or redis://HOST:PORT/0"
    )
