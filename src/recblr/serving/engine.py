"""The engine: serves a trained model by the event, in C++ and without torch.

A user is a state of a few kilobytes.  An event is one step, and its cost does not depend on the history.  The
answers are those of the model on the whole history.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recblr import _core
from recblr.config.model import RecBLRConfig, TimeUse
from recblr.errors import InputError
from recblr.run.model_content import ServableModel, digest_of, read_for_serving, write_model_file
from recblr.run.model_items import changed
from recblr.run.model_tensors import EMBEDDING, REPEAT_BIAS

StateType = Literal["float32", "bfloat16"]
TableType = Literal["auto", "float32", "bfloat16", "int8"]

Id = str | int
Recommendation = tuple[str, float]

_ONE_ID = (str, bytes, int, np.integer)
_MOST_THREADS = 1024


class Engine:
    """A trained model and the states of its users.

    Ids are text or integers.  An integer is the id that is this number in decimal: 7 and "7" are the same.
    The engine answers with text.

    All methods may be called from many threads at once, and other threads of Python run meanwhile.  The
    events of one user are taken in one after another.  A call that raises has changed nothing.

    Times are seconds since 1970 in UTC.  A model of ``--time none`` ignores them.

    Of each user the engine keeps
      - the state, with the answer to the newest event (docs/engine.md describes its layout): `bytes_of_user`;
      - the set of items that the user has, about one byte an item: `seen_bytes` in total;
      - with ``history=True`` all events, 4 bytes each, or 12 with a time.

    `Engine.load` makes one from a model file.
    """

    def __init__(
        self,
        model: ServableModel,
        *,
        threads: int | None = None,
        states: StateType = "float32",
        table: TableType = "auto",
        history: bool = False,
        seen_bytes: int | None = None,
    ) -> None:
        """As :meth:`load`, from the content of a model file."""
        threads = _threads() if threads is None else threads
        if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
            raise InputError(f"threads is {threads!r}", f"give a whole number from 1 to {_MOST_THREADS}")
        for name, value, kinds in (("states", states, StateType), ("table", table, TableType)):
            if value not in get_args(kinds):
                raise InputError(f"{name} is {value!r}", f"give one of {', '.join(get_args(kinds))}")
        if seen_bytes is not None and (type(seen_bytes) is not int or not 0 <= seen_bytes < 2**63):
            raise InputError(
                f"seen_bytes is {seen_bytes!r}", "give a whole number of bytes, or None for no bound"
            )
        self._model = model
        self._native = _core.Engine(
            _facts(model),
            {name: value for name, value in model.tensors.items() if _is_weight(name, value)},
            np.ascontiguousarray(model.table, np.float32),
            model.item_ids,
            {
                "threads": threads,
                "half_states": states == "bfloat16",
                "table": "int8" if table == "auto" else table,
                "history": bool(history),
                "seen_budget": -1 if seen_bytes is None else seen_bytes,
            },
        )
        if model.retired:
            self._native.retire_items([model.item_ids[item] for item in model.retired])

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        states: StateType = "float32",
        table: TableType = "auto",
        history: bool = False,
        seen_bytes: int | None = None,
    ) -> Self:
        """Map a model file of `recblr export` or of a run, check all of it, and make an engine without users.

        Args:
            path: the file.  It must not be changed in place while the engine lives; replacing it is safe.
            threads: how many threads work at once on one call; None means all processors of the process.
            states: how the numbers of a state are kept.  Half as many bytes with bfloat16, and answers that
                differ in the second or third digit.  Arithmetic is float32 in both.
            table: the copy of the item vectors that is searched first.  The answer is the float32 answer with
                each.  "auto" is int8, the fastest; float32 needs no copy, and takes 2 to 10 times as long.
            history: keep the events of each user.  `explain` needs them, and a model with max_length.
            seen_bytes: the most bytes that the seen items of all users may take; None means no bound.

        Raises:
            InputError: the file is missing, damaged, of a later recblr or of a model that cannot be served by
                the event, or an argument is wrong.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"the path has the type {type(path).__name__}", "give the path of a model file")
        model = read_for_serving(Path(path))
        return cls(model, threads=threads, states=states, table=table, history=history, seen_bytes=seen_bytes)

    # --- events ---------------------------------------------------------------------------------

    def update(self, user: Id, item: Id, *, time: float | None = None, event_id: Id | None = None) -> bool:
        """Take in an event of a user, who is new if there is none with this id.

        event_id: an event whose id the engine remembers does not count again.  It remembers the newest 16,384
            ids of each 64th of the users.

        Returns whether the event counted.  Raises InputError for an unknown item, and for a time that is
        missing, not finite, or earlier than that of the user's last event.
        """
        counted: bool = self._native.update(user, item, time, event_id)
        return counted

    def update_many(
        self,
        users: Iterable[Id],
        items: Iterable[Id],
        *,
        times: ArrayLike | None = None,
        event_ids: Iterable[Id] | None = None,
    ) -> int:
        """Take in N events; those of a user in the order of the list.  Returns how many counted.

        All of them are checked before the first one is taken in.  Arguments and errors as :meth:`update`.
        """
        counted: int = self._native.update_many(users, items, times, event_ids)
        return counted

    def rebuild(self, histories: Mapping[Id, Any]) -> None:
        """Put whole histories in the place of what the engine keeps of these users.

        histories: {user: items}, or {user: (items, times)} for a model that knows time; oldest first, 1 event
            or more.

        Raises InputError as :meth:`update`, and for an empty history.
        """
        if not isinstance(histories, Mapping):
            raise InputError(
                f"histories has the type {type(histories).__name__}", "give a dictionary, {user: history}"
            )
        timed, items, times = self.time_use != "none", [], []
        for user, value in histories.items():
            # A pair of ids is a history of two items.
            pair = isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], _ONE_ID)
            if timed and not pair:
                raise InputError(
                    f"the model was trained with --time {self.time_use}, but the history of user"
                    f" {str(user)[:60]!r} has no times",
                    "give a pair (items, times) for each user",
                )
            items.append(value[0] if pair else value)
            times.append(value[1] if pair else None)
        self._native.rebuild(list(histories), items, times if timed else None)

    # --- answers --------------------------------------------------------------------------------

    def recommend(
        self,
        user: Id,
        k: int = 10,
        *,
        time: float | None = None,
        exclude: Iterable[Id] = (),
        allow: Iterable[Id] | None = None,
        mask_seen: bool = True,
    ) -> list[Recommendation]:
        """The k best items for a user, best first, each with its score.

        Args:
            k: from 1 to the number of items.  The list is shorter if fewer items may be recommended.
            time: of the request, for a model of ``--time request``; None means right after the user's last
                event.
            exclude: items to leave out.
            allow: the only items that may be recommended; None means all.
            mask_seen: leave out the items that the user has.

        Raises:
            InputError: the user or an item is unknown, k is out of its range, `allow` is empty, or the
                request comes before the user's last event.
        """
        best: list[Recommendation] = self._native.recommend(user, k, time, exclude, allow, mask_seen)
        return best

    def recommend_many(
        self,
        users: Iterable[Id],
        k: int = 10,
        *,
        times: ArrayLike | None = None,
        exclude: Iterable[Id] = (),
        allow: Iterable[Id] | None = None,
        mask_seen: bool = True,
    ) -> list[list[Recommendation]]:
        """For each user what :meth:`recommend` returns, in less time.  The filters hold for all users."""
        best: list[list[Recommendation]]
        best = self._native.recommend_many(users, k, times, exclude, allow, mask_seen)
        return best

    def recommend_history(
        self,
        items: Iterable[Id],
        k: int = 10,
        *,
        times: ArrayLike | None = None,
        time: float | None = None,
        exclude: Iterable[Id] = (),
        allow: Iterable[Id] | None = None,
        mask_seen: bool = True,
    ) -> list[Recommendation]:
        """The k best items after a history, oldest event first, of nobody whom the engine keeps.

        times: of the events, for a model that knows time.  The other arguments and the errors are those of
        :meth:`recommend`; the history has 1 event or more.
        """
        best: list[Recommendation]
        best = self._native.recommend_history(items, k, times, time, exclude, allow, mask_seen)
        return best

    def vector(self, user: Id, *, time: float | None = None) -> NDArray[np.float32]:
        """The vector ``(D,)`` float32 of a user, for a search that is not the engine's.

        The score of an item is its product with the vector of the item, plus the bias of repeats if the user
        has the item.  Arguments and errors as :meth:`recommend`.
        """
        values: NDArray[np.float32] = self._native.vector(user, time)
        return values

    def score(self, user: Id, items: Iterable[Id], *, time: float | None = None) -> NDArray[np.float32]:
        """The scores ``(N,)`` float32 of N items for a user, as :meth:`recommend` compares them."""
        scores: NDArray[np.float32] = self._native.score(user, items, time)
        return scores

    def explain(self, user: Id, item: Id, *, time: float | None = None) -> list[tuple[int, str, float]]:
        """How much each of the user's newest 100 events changes the score of an item, exactly.

        Returns (position, item, change) for each event, the largest change first.  The position counts the
        user's events from 0.  The change is the score less the score without this event.

        Raises InputError as :meth:`recommend`, and if the engine keeps no histories.
        """
        changes: list[tuple[int, str, float]] = self._native.explain(user, item, time)
        return changes

    def similar(self, item: Id, k: int = 10) -> list[Recommendation]:
        """The k other items whose vectors have the largest cosine with that of an item, with the cosine."""
        best: list[Recommendation] = self._native.similar(item, k)
        return best

    # --- what is kept ---------------------------------------------------------------------------

    def state(self, user: Id) -> bytes:
        """All that is kept of a user (docs/engine.md has the layout).  InputError for an unknown user."""
        kept: bytes = self._native.state(user)
        return kept

    def set_state(self, user: Id, state: bytes) -> None:
        """Keep for a user what :meth:`state` returned.  The ids of events that have counted stay remembered.

        Raises InputError if it is damaged, of another model, or of an engine with other `states` or
        `history`.
        """
        if not isinstance(state, bytes | bytearray | memoryview):
            raise InputError(
                f"the state has the type {type(state).__name__}", "give the bytes that state() returned"
            )
        self._native.set_state(user, bytes(state))

    def forget(self, user: Id) -> bool:
        """Drop all that is kept of a user, the ids of events too, and return whether there was anything."""
        known: bool = self._native.forget(user)
        return known

    def __contains__(self, user: Id) -> bool:
        known: bool = self._native.knows(user)
        return known

    def seen(self, user: Id) -> list[str]:
        """The items that a user has, in the order of the catalogue.  InputError for an unknown user."""
        items: list[str] = self._native.seen(user)
        return items

    @property
    def user_ids(self) -> list[str]:
        """The ids of all users, in no order."""
        ids: list[str] = self._native.user_ids()
        return ids

    @property
    def num_users(self) -> int:
        """The number of users."""
        count: int = self._native.users()
        return count

    @property
    def bytes_of_user(self) -> int:
        """The bytes of one user's state and answer."""
        count: int = self._native.bytes_of_user()
        return count

    @property
    def seen_bytes(self) -> int:
        """The bytes of the seen items of all users."""
        count: int = self._native.seen_bytes()
        return count

    # --- items ----------------------------------------------------------------------------------

    def add_items(
        self,
        ids: Sequence[Id],
        *,
        vectors: ArrayLike | None = None,
        like: Sequence[Sequence[Id]] | None = None,
    ) -> None:
        """Add N items without training.

        Args:
            ids: of the new items.
            vectors: ``(N, D)`` their vectors; or
            like: for each new item one or more items whose mean vector it gets.

        Raises:
            InputError: an id is taken or given twice, neither or both of vectors and like are given, or a
                vector has another width or holds NaN or an infinite number.
        """
        if (vectors is None) == (like is None):
            raise InputError("new items need either vectors= or like=", "give one of them")
        self._native.add_items(ids, None if vectors is None else self._vectors(vectors), like)

    def _vectors(self, vectors: ArrayLike) -> NDArray[np.float32]:
        width, remedy = self._model.config.d_model, "give one vector of the model's width for each item"
        try:
            rows = np.asarray(vectors)
        except ValueError:
            raise InputError("vectors holds vectors of several lengths", remedy) from None
        if rows.dtype.kind not in "iuf":
            raise InputError(f"vectors has the type {rows.dtype}, which is not one of real numbers", remedy)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise InputError(f"vectors has the shape {rows.shape}, not (items, {width})", remedy)
        with np.errstate(over="ignore"):  # an infinite number is refused later
            return np.ascontiguousarray(rows, np.float32)

    def retire_items(self, ids: Iterable[Id]) -> None:
        """Never recommend these items again.  They stay legal in histories.

        Raises InputError for an unknown item, and if no item would be left.
        """
        self._native.retire_items(ids)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model with its added and retired items, but no users, to a file for :meth:`load`."""
        ids, table, retired = self.items()
        tensors = {**self._model.tensors, EMBEDDING: table}
        write_model_file(
            Path(path), changed(self._model, item_ids=ids, tensors=tensors, retired=tuple(retired))
        )

    def items(self) -> tuple[list[str], NDArray[np.float32], list[int]]:
        """All V items at one moment, for a search that is not the engine's.

        Returns their ids, their vectors ``(V, D)`` float32, which must not be changed, and the numbers of the
        retired ones, ascending.
        """
        ids, added, retired = self._native.items()
        table = self._model.table
        if len(added):
            table = np.concatenate([table, added.reshape(-1, table.shape[1])])
        return ids, table, retired

    @property
    def item_ids(self) -> list[str]:
        """The ids of all items, with the added and the retired ones."""
        ids: list[str] = self._native.item_ids()
        return ids

    @property
    def num_items(self) -> int:
        """The number of items, with the added and the retired ones."""
        count: int = self._native.num_items()
        return count

    # --- the model ------------------------------------------------------------------------------

    @property
    def config(self) -> RecBLRConfig:
        """The hyper-parameters of the model."""
        return self._model.config

    @property
    def time_use(self) -> TimeUse:
        """What the model knows of time: none, past or request."""
        return self._model.config.time_use

    @property
    def digest(self) -> str:
        """The digest of the model file, 64 hexadecimal digits.  Each change of the file gives another one."""
        return self._model.digest or _digest(self._model)

    @property
    def state_digest(self) -> str:
        """The digest of all that states depend on: the model file, and the items that were added since."""
        ids, added, _ = self._native.items()
        if not len(added):
            return self.digest
        new = "\0".join(ids[len(self._model.item_ids) :])
        return hashlib.sha256(f"{self.digest}\0{new}\0".encode() + added.tobytes()).hexdigest()

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the data that the model was trained on."""
        return self._model.fingerprint

    @property
    def metrics(self) -> dict[str, dict[str, float]] | None:
        """The validation metrics of the model."""
        return self._model.metrics

    @property
    def threads(self) -> int:
        """How many threads work at once on one call."""
        count: int = self._native.threads()
        return count

    def __reduce__(self) -> Any:
        raise InputError(
            "an engine can be neither pickled nor copied",
            "load the model file once more, and move users with state and set_state",
        )

    def __repr__(self) -> str:
        return (
            f"<recblr.Engine of {self.num_items:,} items and {self.num_users:,} users, time={self.time_use}>"
        )


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_weight(name: str, value: NDArray[Any]) -> bool:
    return name not in (EMBEDDING, REPEAT_BIAS) and value.dtype == np.float32


def _facts(model: ServableModel) -> dict[str, Any]:
    """What the native engine must know beside the weights."""
    config, layer = model.config, model.config.layer()
    times = {name: float(model.tensors.get(f"time.{name}", 0)) for name in ("longest_gap", "step", "start")}
    return {
        "d_model": config.d_model,
        "d_inner": layer.d_inner,
        "d_conv": config.d_conv,
        "num_layers": config.num_layers,
        "padding_steps": config.padding_steps,
        "beta_epsilon": config.beta_epsilon,
        "time": config.time_use,
        "repeat_bias": model.repeat_bias,
        "max_length": config.max_length,
        # It names the model in states, which stay valid when items are added or retired.
        "digest": bytes.fromhex(model.origin or model.digest or _digest(model)),
        **times,
    }


def _digest(model: ServableModel) -> str:
    """The digest of a model that is in no file."""
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in model.tensors.items()}
    return digest_of(tensors, {"config": asdict(model.config), "item_ids": model.item_ids})
