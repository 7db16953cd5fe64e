"""RecBLR as a model of RecTools: its datasets, its `recommend` and its metrics work with this model.

Example::

    from rectools.dataset import Dataset

    from recblr.integrations.rectools import RecBLRModel

    dataset = Dataset.construct(interactions)  # user_id, item_id, weight, datetime
    model = RecBLRModel(epochs=10).fit(dataset)
    recos = model.recommend(users, dataset, k=10, filter_viewed=True)

RecTools needs pandas below 3, and NumPy below 2 before Python 3.13.  So install it with
``pip install 'recblr[rectools]'`` into an environment of its own.

Weights of interactions are not used.  Histories come from the dataset that `recommend` is given, so a model
recommends also to users whom it was not trained on.  Users and items without any known item are unsupported
targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from recblr.errors import InputError
from recblr.recommender import Recommender
from recblr.serving.filters import unit_rows

try:
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models.base import ModelBase, ModelConfig
except ImportError as error:
    raise ImportError(
        f"recblr.integrations.rectools works with RecTools, which cannot be imported here ({error});"
        " install it with pip install 'recblr[rectools]', in an environment of its own"
    ) from None


_COSINES = 2**22
"""The most cosines at a time: 32 MiB, and as much again for their order."""

_REQUEST_TIMES: ContextVar[dict[Any, Any] | None] = ContextVar("request times", default=None)
"""{user: time}, on the way through RecTools to `_recommend_u2i`.  Several threads may ask one model."""


class RecBLRModelConfig(ModelConfig):  # type: ignore[misc]
    """The configuration of a :class:`RecBLRModel`: the options of `Recommender.fit`."""

    options: dict[str, Any] = {}  # noqa: RUF012  pydantic copies it


class RecBLRModel(ModelBase[RecBLRModelConfig]):  # type: ignore[misc]
    """A RecBLR, or another model of recblr, for RecTools.

    Args:
        verbose: above 0, the progress of the training is shown.
        options: those of :meth:`recblr.Recommender.fit`, such as ``epochs=10`` or ``d_model=128``.  By
            default, no user and no item is dropped (``k_core=0``, ``keep_short=True``).  If the times of
            events differ, the model knows them, but not the times of requests (``time_use="past"``).

    A model of ``time_use="request"`` takes the times of requests from the `context` of `recommend`: a frame
    with the columns user_id and datetime.  Without it, a request comes right after the last event.  Any other
    model refuses a context.

    recommender: the :class:`recblr.Recommender` of a fitted model.
    """

    recommends_for_warm = False
    recommends_for_cold = False
    config_class = RecBLRModelConfig

    recommender: Recommender

    def __init__(self, *, verbose: int = 0, **options: Any) -> None:
        super().__init__(verbose=verbose)
        self.options = options

    def _get_config(self) -> RecBLRModelConfig:
        return RecBLRModelConfig(cls=type(self), verbose=self.verbose, options=self.options)

    @classmethod
    def _from_config(cls, config: RecBLRModelConfig) -> RecBLRModel:
        return cls(verbose=config.verbose, **config.options)

    def _fit(self, dataset: Dataset) -> None:
        log = _log_of(dataset)
        options = {"k_core": 0, "keep_short": True, **self.options}
        if options.get("split") == "time":
            options.pop("keep_short")
        options.setdefault("time_use", "past" if log[Columns.Datetime].nunique() > 1 else "none")
        columns = {"user": Columns.User, "item": Columns.Item, "time": Columns.Datetime}
        self.recommender = Recommender(frames="pandas").fit(
            log, **columns, progress=self.verbose > 0, **options
        )

    def recommend(
        self,
        users: Any,
        dataset: Dataset,
        k: int,
        filter_viewed: bool,
        items_to_recommend: Any = None,
        add_rank_col: bool = True,
        on_unsupported_targets: Any = "raise",
        context: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Recommend items for users, as :meth:`rectools.models.base.ModelBase.recommend` says.

        context: the times of requests, a frame with a row for each user and the columns user_id and datetime.
        """
        before = _REQUEST_TIMES.set(None if context is None else _times_in(context))
        try:
            return super().recommend(
                users,
                dataset,
                k,
                filter_viewed,
                items_to_recommend=items_to_recommend,
                add_rank_col=add_rank_col,
                on_unsupported_targets=on_unsupported_targets,
            )
        finally:
            _REQUEST_TIMES.reset(before)

    def _custom_transform_dataset_u2i(
        self, dataset: Dataset, users: Any, on_unsupported_targets: Any, context: Any = None
    ) -> Dataset:
        frame = dataset.interactions.df
        known = frame[Columns.Item].isin(self._known(dataset))
        asked = dataset.user_id_map.convert_to_internal(users, strict=False)
        without = np.setdiff1d(
            frame[Columns.User][frame[Columns.User].isin(asked)], frame[Columns.User][known]
        )
        _unsupported(len(without), "user", on_unsupported_targets)
        return dataset

    def _custom_transform_dataset_i2i(
        self, dataset: Dataset, target_items: Any, on_unsupported_targets: Any
    ) -> Dataset:
        asked = dataset.item_id_map.convert_to_internal(target_items, strict=False)
        _unsupported(len(np.setdiff1d(asked, self._known(dataset))), "item", on_unsupported_targets)
        return dataset

    def _recommend_u2i(
        self,
        user_ids: Any,
        dataset: Dataset,
        k: int,
        filter_viewed: bool,
        sorted_item_ids_to_recommend: Any,
    ) -> tuple[Sequence[int], Sequence[int], Sequence[float]]:
        known = self._known(dataset)
        allowed = known
        if sorted_item_ids_to_recommend is not None:
            allowed = np.intersect1d(known, sorted_item_ids_to_recommend)
        frame = dataset.interactions.df
        frame = frame[frame[Columns.Item].isin(known) & frame[Columns.User].isin(user_ids)]
        if not len(frame) or not len(allowed):
            return [], [], []
        frame = frame.sort_values(Columns.Datetime, kind="stable")
        groups = dict(tuple(frame.groupby(Columns.User, sort=False)))
        users = [user for user in user_ids if user in groups]
        items = dataset.item_id_map.convert_to_external
        requests = None
        times = _REQUEST_TIMES.get()
        if times is not None:
            names = dataset.user_id_map.convert_to_external(users)
            lacking = next((name for name in names if name not in times), None)
            if lacking is not None:
                raise InputError(f"the context has no row for user {lacking!r}", "give a row for each user")
            requests = [times[name] for name in names]
        best = self.recommender.recommend_histories(
            {int(user): items(groups[user][Columns.Item].to_numpy()) for user in users},
            k,
            times={int(user): groups[user][Columns.Datetime].to_numpy() for user in users},
            request_times=requests,
            filter_viewed=filter_viewed,
            items=items(allowed),
        )
        numbers = {name: number for number, name in enumerate(_texts(dataset))}
        return (
            best["user"].to_numpy(),
            [numbers[str(item)] for item in best["item"]],
            best["score"].to_numpy(),
        )

    def _recommend_i2i(
        self, target_ids: Any, dataset: Dataset, k: int, sorted_item_ids_to_recommend: Any
    ) -> tuple[Sequence[int], Sequence[int], Sequence[float]]:
        known = self._known(dataset)
        targets = np.asarray(target_ids, np.int64)
        targets = targets[np.isin(targets, known)]
        allowed = known
        if sorted_item_ids_to_recommend is not None:
            allowed = np.intersect1d(known, sorted_item_ids_to_recommend)
        count = min(k, len(allowed))
        if not len(targets) or not count:
            return [], [], []
        ours, theirs = self._units(dataset, targets), self._units(dataset, allowed)
        items, cosines = [], []
        step = max(1, _COSINES // len(allowed))
        for start in range(0, len(targets), step):
            part = ours[start : start + step] @ theirs.T
            order = np.argsort(-part, axis=1, kind="stable")[:, :count]
            items.append(allowed[order].reshape(-1))
            cosines.append(np.take_along_axis(part, order, 1).reshape(-1))
        return np.repeat(targets, count).tolist(), np.hstack(items).tolist(), np.hstack(cosines).tolist()

    def _units(self, dataset: Dataset, items: Any) -> Any:
        """The vectors of items, each of length 1."""
        return unit_rows(self.recommender.item_vectors(dataset.item_id_map.convert_to_external(items)))

    def _known(self, dataset: Dataset) -> Any:
        """The numbers in the dataset of the items that the model knows, ascending."""
        known = set(map(str, self.recommender.item_ids))
        return np.flatnonzero([name in known for name in _texts(dataset)])


def _texts(dataset: Dataset) -> list[str]:
    """The ids of all items as the recommender knows them, in the order of their numbers."""
    return [str(name).strip() for name in dataset.item_id_map.external_ids]


def _log_of(dataset: Dataset) -> pd.DataFrame:
    """The interactions of a dataset with the ids of the user."""
    raw = dataset.get_raw_interactions()
    return raw[[Columns.User, Columns.Item, Columns.Datetime]].reset_index(drop=True)


def _times_in(context: pd.DataFrame) -> dict[Any, Any]:
    """{user: time of the request} of a context."""
    for name in (Columns.User, Columns.Datetime):
        if name not in context.columns:
            raise InputError(f"the context has no column {name!r}", "give the times of requests in it")
    if context[Columns.User].duplicated().any():
        raise InputError("the context has two rows for one user", "give one row for each user")
    return dict(zip(context[Columns.User], pd.to_datetime(context[Columns.Datetime]), strict=True))


def _unsupported(count: int, what: str, how: Any) -> None:
    """Report targets that have no known item, as `on_unsupported_targets` says."""
    if not count or how == "ignore":
        return
    said = f"{count} of the given {what}s have no item that the model knows"
    if how == "raise":
        raise ValueError(said)
    warnings.warn(said, UserWarning, stacklevel=4)
