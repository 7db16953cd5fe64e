"""A store in Redis, for several servers.

Each user is a few keys.  A script in Redis adds a group of events, if none of its users has changed since the
server looked; otherwise nothing happens, and the server looks again.  So no lock is held over the network.
"""

import hashlib
import secrets
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode

from recblr.errors import InputError
from recblr.serving.stores.store import Batch, Conflict, History, StoreError, package_missing

_LAYOUT = b"1"
_IDS_OF_USER = 1000
_MOST_EVENTS = 20_000  # in one group: Redis answers nobody while it adds them, 0.3 s for so many
_EVENT = struct.Struct("<dd")  # version and time; the item follows
_STATE = struct.Struct("<32sd")  # the model's hash and the version; the state follows
_RECENT = 64  # events that are read first, because a server that looks again seldom needs more
_DURABLE = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}

# Versions are microseconds of Redis' clock, or follow on the last one.  So they do not repeat, even if Redis
# with relaxed durability has lost some.
_APPEND = """
local prefix, token = ARGV[1], ARGV[2]
local done = redis.call('GET', prefix .. 'done:' .. token)
if done then return {1, done} end  -- the same call, sent again after its answer was lost
local users, events = tonumber(ARGV[3]), tonumber(ARGV[4])
for i = 0, users - 1 do
  local version = redis.call('HGET', prefix .. 'user:' .. ARGV[5 + 2 * i], 'last') or '0'
  if version ~= ARGV[6 + 2 * i] then return {0, ARGV[5 + 2 * i]} end
end
local clock = redis.call('TIME')
local first = tonumber(redis.call('GET', prefix .. 'next') or '1')
first = math.max(first, clock[1] * 1000000 + clock[2])
redis.call('SET', prefix .. 'next', string.format('%.0f', first + events))
local at = 5 + 2 * users
for i = 0, events - 1 do
  local user, payload, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local version = string.format('%.0f', first + i)
  redis.call('RPUSH', prefix .. 'events:' .. user, struct.pack('<d', first + i) .. payload)
  redis.call('HSET', prefix .. 'user:' .. user, 'last', version)
  redis.call('HSETNX', prefix .. 'user:' .. user, 'first', version)
  if id ~= '' then
    redis.call('ZADD', prefix .. 'ids:' .. user, version, id)
    redis.call('ZREMRANGEBYRANK', prefix .. 'ids:' .. user, 0, -1 - tonumber(ARGV[#ARGV]))
  end
  at = at + 3
end
first = string.format('%.0f', first)
redis.call('SET', prefix .. 'done:' .. token, first, 'EX', ARGV[#ARGV - 1])
return {1, first}
"""
_PUT_STATE = """
local user, version = ARGV[2], tonumber(ARGV[3])
local first = redis.call('HGET', ARGV[1] .. 'user:' .. user, 'first')
if not first or version < tonumber(first) then return 0 end
local key = ARGV[1] .. 'state:' .. user
local kept = redis.call('GETRANGE', key, 0, 39)
if #kept == 40 and kept:sub(1, 32) == ARGV[4]:sub(1, 32) and struct.unpack('<d', kept, 33) >= version then
  return 0
end
redis.call('SET', key, ARGV[4])
return 1
"""


class RedisStore:
    """Keeps events and states in one Redis, for any number of servers.

    An event is durable when it is acknowledged if Redis has the settings ``appendonly yes``, ``appendfsync
    always`` and ``no-appendfsync-on-rewrite no``.  The store refuses a Redis with others.  Of each user the
    newest 1,000 ids of events are remembered.
    """

    local = False

    def __init__(self, address: str) -> None:
        """Connect to a Redis.

        address: ``redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]``, with ``rediss`` for TLS, or
            ``unix://PATH``.  After a ``?`` may follow ``durability=relaxed``, to accept the settings that
            Redis has; ``prefix=TEXT`` of all keys, which is ``recblr:`` by default; and options of redis-py,
            such as ``socket_timeout=2``.

        Raises InputError if Redis holds another layout, and StoreError if it is not durable or does not
        answer.
        """
        redis = self._redis = _package()
        place, _, query = address.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        relaxed, prefix = options.pop("durability", "strict"), options.pop("prefix", "recblr:")
        if relaxed not in ("strict", "relaxed"):
            raise InputError(f"durability is {relaxed!r}", "give durability=relaxed, or leave it out")
        self._prefix = prefix
        kind, _, server = place.partition("://")
        self.address = f"{kind}://{server.rpartition('@')[2]}"  # without the password
        try:
            self._client = redis.Redis.from_url(
                f"{place}?{urlencode(options)}",
                # Only if the connection broke: a Redis that hangs does not answer the next time either.  An
                # append that is sent again counts once.
                retry=redis.retry.Retry(
                    redis.backoff.ExponentialWithJitterBackoff(cap=0.5, base=0.05),
                    4,
                    (redis.ConnectionError,),
                ),
                socket_timeout=3.0,
                socket_connect_timeout=1.0,
                # Another Redis may have taken over, or this one may have started again with other settings.
                redis_connect_func=None if relaxed == "relaxed" else self._connected,
            )
        except (ValueError, TypeError) as error:
            raise InputError(
                f"the address {self.address} is wrong: {error}", "give redis://HOST:PORT/0"
            ) from None
        limits = self._client.connection_pool.connection_kwargs
        # Seconds, longer than redis-py may go on to send a group again.
        self._repeated_for = 60 + 10 * int(limits["socket_timeout"] + limits["socket_connect_timeout"])
        self._append, self._put = (self._client.register_script(script) for script in (_APPEND, _PUT_STATE))
        try:
            with self._asking():
                if not self._client.set(f"{prefix}layout", _LAYOUT, nx=True):
                    layout = self._client.get(f"{prefix}layout")
                    if layout != _LAYOUT:
                        raise InputError(
                            f"the store {self.address} has the layout {layout!r}, but this recblr knows 1",
                            "install a later recblr, or give another prefix=",
                        )
        except TypeError as error:  # redis-py looks at its options when it connects
            raise InputError(
                f"the address {self.address} is wrong: {error}", "correct what is after ?"
            ) from None
        except BaseException:
            self.close()
            raise

    def _connected(self, connection: Any) -> None:
        """Greet Redis on a new connection.  Raises StoreError if it may lose acknowledged events."""
        connection.on_connect()
        try:
            self._check_durability(connection)
        except StoreError:
            connection.disconnect()
            raise

    def _check_durability(self, connection: Any) -> None:
        accept = "add ?durability=relaxed to the address to accept the loss of acknowledged events"
        connection.send_command("CONFIG", "GET", *_DURABLE, "maxmemory", "maxmemory-policy")
        try:
            said = connection.read_response()
        except self._redis.ResponseError:
            raise StoreError(
                f"the Redis at {self.address} does not tell its settings, so it may lose events",
                f"allow CONFIG GET to this user, or {accept}",
            ) from None
        pairs = said.items() if isinstance(said, dict) else zip(said[::2], said[1::2], strict=True)
        found = {name.decode(): value.decode() for name, value in pairs}
        wrong = [name for name, value in _DURABLE.items() if found.get(name) != value]
        if wrong:
            has = " and ".join(f"{name} {found.get(name)}" for name in wrong)
            right = " and ".join(f"{name} {_DURABLE[name]}" for name in wrong)
            raise StoreError(
                f"the Redis at {self.address} has the settings {has}, so it may lose acknowledged events",
                f"set {right} in its configuration, or {accept}",
            )
        if found.get("maxmemory") != "0" and found.get("maxmemory-policy") != "noeviction":
            raise StoreError(
                f"the Redis at {self.address} drops keys when its memory is full"
                f" (maxmemory-policy {found.get('maxmemory-policy')})",
                f"set maxmemory-policy noeviction, or {accept}",
            )

    # --- adding events --------------------------------------------------------------------------

    @contextmanager
    def transaction(self, users: Sequence[str]) -> Iterator["_Transaction"]:
        """As Store.transaction, but others may add events meanwhile: then append raises Conflict."""
        yield _Transaction(self, dict(zip(users, self.versions(users), strict=True)))

    def forget(self, user: str) -> bool:
        """As Store.forget."""
        with self._asking():
            # One command, so all of it happens or nothing.
            keys = (self._key(kind, user) for kind in ("user", "events", "ids", "state"))
            return bool(self._client.delete(*keys))

    # --- reading --------------------------------------------------------------------------------

    def version(self, user: str) -> int:
        """As Store.version."""
        with self._asking():
            return int(self._client.hget(self._key("user", user), "last") or 0)

    def versions(self, users: Sequence[str]) -> list[int]:
        """As Store.versions."""
        with self._asking():
            pipeline = self._client.pipeline(transaction=False)
            for user in users:
                pipeline.hget(self._key("user", user), "last")
            return [int(version or 0) for version in pipeline.execute()]

    def history(self, user: str, after: int = 0) -> History:
        """As Store.history."""
        with self._asking():
            if after:
                first, events = self._events(user, -_RECENT)
                versions = [int(_EVENT.unpack_from(event)[0]) for event in events]
                if events and first <= after <= versions[-1] and versions[0] <= after:
                    return _history(events[bisect_right(versions, after) :], versions[-1], False)
            first, events = self._events(user, 0)
        versions = [int(_EVENT.unpack_from(event)[0]) for event in events]
        version = versions[-1] if versions else 0
        whole = not first <= after <= version
        return _history(
            events if whole else events[bisect_right(versions, after) :], version, whole or not version
        )

    def _events(self, user: str, start: int) -> tuple[int, list[bytes]]:
        """The version of the user's first event, and the events from a place on, as of one moment."""
        while True:
            # Not in MULTI: a Redis whose memory is full refuses that even to readers.
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hget(self._key("user", user), "first")
            pipeline.lrange(self._key("events", user), start, -1)
            pipeline.hget(self._key("user", user), "first")
            first, events, again = pipeline.execute()
            if first == again:  # else the user was forgotten meanwhile
                return int(first or 0), events

    def users(self) -> Iterator[str]:
        """As Store.users."""
        start = self._key("user", "")
        with self._asking():
            seen = set()  # Redis may answer a key twice
            for key in self._client.scan_iter(match=f"{_literal(start)}*", count=1000):
                user = key.decode()[len(start) :]
                if user not in seen:
                    seen.add(user)
                    yield user

    # --- states ---------------------------------------------------------------------------------

    def state(self, user: str, model: str) -> tuple[int, bytes] | None:
        """As Store.state."""
        with self._asking():
            kept = self._client.get(self._key("state", user))
        if not kept or kept[:32] != _hash(model):
            return None
        return int(_STATE.unpack_from(kept)[1]), kept[_STATE.size :]

    def put_states(self, model: str, states: Mapping[str, tuple[int, bytes]]) -> None:
        """As Store.put_states."""
        of = _hash(model)
        with self._asking():
            for user, (version, state) in states.items():
                self._put(args=[self._prefix, user, version, _STATE.pack(of, version) + state])

    # --- the rest -------------------------------------------------------------------------------

    def maintain(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """As Store.close."""
        self._client.close()

    def __enter__(self) -> "RedisStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _key(self, kind: str, user: str) -> str:
        return f"{self._prefix}{kind}:{user}"

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The errors of Redis as sentences."""
        exceptions = self._redis.exceptions
        try:
            yield
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            raise StoreError(
                f"the Redis at {self.address} does not answer: {error}",
                "start it, and try again; what was acknowledged is not lost",
            ) from None
        except exceptions.RedisError as error:
            raise StoreError(
                f"the Redis at {self.address} refuses: {error}", "correct this in Redis, and try again"
            ) from None


class _Transaction:
    """As Transaction, for Redis."""

    def __init__(self, store: RedisStore, versions: dict[str, int]) -> None:
        self._store, self._versions = store, versions

    def versions(self, users: Sequence[str]) -> list[int]:
        return [self._versions[user] for user in users]

    def new(self, users: Sequence[str], event_ids: Sequence[str]) -> list[int]:
        asked = [place for place, event_id in enumerate(event_ids) if event_id]
        with self._store._asking():
            pipeline = self._store._client.pipeline(transaction=False)
            for place in asked:
                pipeline.zscore(self._store._key("ids", users[place]), event_ids[place])
            known = {
                place for place, score in zip(asked, pipeline.execute(), strict=True) if score is not None
            }
        found, here = [], set()
        for place, key in enumerate(zip(users, event_ids, strict=True)):
            if not key[1]:
                found.append(place)
            elif place not in known and key not in here:
                here.add(key)
                found.append(place)
        return found

    def prepare(self, batch: Batch) -> None:
        pass

    def append(self, batch: Batch) -> int:
        count = len(batch.users)
        if count > _MOST_EVENTS:
            raise InputError(f"a group has {count:,} events", f"give at most {_MOST_EVENTS:,}")
        arguments: list[Any] = [self._store._prefix, secrets.token_hex(16), len(self._versions), count]
        for pair in self._versions.items():
            arguments += pair
        ids = batch.event_ids or [""] * count
        for user, item, time, event_id in zip(batch.users, batch.items, batch.times, ids, strict=True):
            arguments += (user, struct.pack("<d", time) + item.encode(), event_id)
        with self._store._asking():
            done, said = self._store._append(args=[*arguments, self._store._repeated_for, _IDS_OF_USER])
        if not done:
            raise Conflict(said.decode())
        return int(said)


def _history(events: list[bytes], version: int, whole: bool) -> History:
    items = [event[_EVENT.size :].decode() for event in events]
    return History(version, items, [_EVENT.unpack_from(event)[1] for event in events], whole)


def _hash(model: str) -> bytes:
    return hashlib.sha256(model.encode()).digest()


def _literal(text: str) -> str:
    """A pattern of Redis that matches this text only."""
    return "".join(f"\\{character}" if character in "*?[]\\^-" else character for character in text)


def _package() -> ModuleType:
    try:
        import redis
        import redis.backoff
        import redis.retry
    except ModuleNotFoundError:
        raise package_missing("redis", "a store of the kind redis") from None
    return redis
