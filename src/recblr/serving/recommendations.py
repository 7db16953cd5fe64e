"""The recommendations of a trained model after a history."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import torch

from recblr.data import Packed
from recblr.errors import InputError
from recblr.evaluation.ranking import check_items
from recblr.nn.base import NextItemModel
from recblr.run.model_file import SavedModel
from recblr.serving.bulk import Lists, check_histories, parts
from recblr.serving.scorer import model_scorer, ranking_tokens
from recblr.system.device import tensors_on

_SCORES = 2**24
"""The most scores at a time."""


def recommend(
    model: NextItemModel,
    history: Sequence[int],
    k: int,
    *,
    times: Sequence[float] | None = None,
    request_time: float | None = None,
    mask_seen: bool = True,
    retired: Sequence[int] = (),
) -> list[tuple[int, float]]:
    """The k best items after a history, best first, each with its score.

    Args:
        model: in evaluation mode.
        history: item indices, oldest first, 1 or more.
        k: number of items, 1 or more.  The result has fewer if there are not enough candidates.
        times: the seconds since 1970 of each event of the history, in UTC, which never decrease.  Only a
            model that knows no time can do without, and ignores them.
        request_time: when the items are asked for, in the same seconds; None for right after the last event.
            Only a model with ``time="request"`` uses it.
        mask_seen: leave out the items of the history.
        retired: the numbers of items to leave out; :attr:`recblr.run.SavedModel.retired`.

    Returns:
        (item index, score) pairs.

    Raises:
        InputError: the history is empty or holds an item outside the catalogue, or `retired` does, k < 1, or
            times are missing, do not fit the history, decrease, or are later than the request.
    """
    items = np.asarray(history, dtype=np.int64)
    if not items.size:
        raise InputError("the history is empty, so nothing can be recommended", "give one item or more")
    if k < 1:
        raise InputError(f"k, the number of items to recommend, must be at least 1, but is {k}")
    check_items(items, model.num_items, "history")
    check_items(np.array(retired, np.int64), model.num_items, "retired")
    packed = Packed(items, np.array([0, len(items)]))
    if model.time_arguments:
        packed = _with_times(packed, model.config.time_use, times, request_time)
    (best,) = recommend_many(model, packed, min(k, model.num_items), mask_seen=mask_seen, retired=retired)
    pairs = zip(best.items[0].tolist(), best.scores[0].tolist(), strict=True)
    return [(item, score) for item, score in pairs if item >= 0]


def recommend_many(
    model: NextItemModel,
    histories: Packed,
    k: int = 10,
    *,
    mask_seen: bool = True,
    retired: Sequence[int] = (),
    progress: Callable[[int], object] | None = None,
) -> Iterator[Lists]:
    """As :func:`recblr.serving.recommend_in_bulk`, but by the model itself, in PyTorch and on its device.

    It serves every model, also the baselines.  It has no `exclude` and no `allow`; `retired` leaves items out
    for all users.  Otherwise, arguments and errors are those of the two functions, but errors come at once,
    before the first part.  Of items with equal scores, any may come first.
    """
    if k < 1:
        raise InputError(f"k, the number of items to recommend, is {k}", "give a number of at least 1")
    check_histories(histories, model.num_items)
    check_items(np.array(retired, np.int64), model.num_items, "retired")
    if histories.times is not None:
        if histories.request_times is None:
            histories = histories.asked_at(histories.last_times)
        check_requests(histories)
    return _lists(model, histories, k, mask_seen, retired, progress)


def _lists(
    model: NextItemModel,
    histories: Packed,
    k: int,
    mask_seen: bool,
    retired: Sequence[int],
    progress: Callable[[int], object] | None,
) -> Iterator[Lists]:
    """As `recommend_many`, whose arguments are checked."""
    score, count = model_scorer(model), model.num_items
    users = max(1, _SCORES // count)
    for part in parts(histories.offsets, users=users, events=ranking_tokens(model)):
        chunk = histories.select(np.arange(part.start, part.stop))
        scores = score(chunk).float()
        scores[:, torch.tensor(retired, dtype=torch.int64)] = -torch.inf
        if mask_seen:
            scores[tensors_on(scores.device, chunk.owners, chunk.items)] = -torch.inf
        best = torch.topk(scores, min(k, count))
        found = best.values.cpu().numpy()
        left = found != -np.inf
        items = np.full((len(chunk), k), -1)
        values = np.full((len(chunk), k), np.nan, np.float32)
        items[:, : found.shape[1]] = np.where(left, best.indices.cpu().numpy(), -1)
        values[:, : found.shape[1]] = np.where(left, found, np.nan)
        yield Lists(np.arange(part.start, part.stop), items, values)
        if progress is not None:
            progress(part.stop)


def _with_times(
    history: Packed, time_use: str, times: Sequence[float] | None, request_time: float | None
) -> Packed:
    """One history with times.  Raises the errors of `recommend` about times."""
    if times is None:
        raise InputError(
            f"the model was trained with --time {time_use}, so it needs the times of the history",
            "give them (times= in Python)",
        )
    if len(times) != len(history.items):
        raise InputError(
            f"the history has {len(history.items)} event(s), but {len(times)} time(s)", "give one for each"
        )
    seconds = np.asarray(times, dtype=np.float64)
    request = seconds[-1] if request_time is None else request_time
    if not np.isfinite([*seconds, request]).all():
        raise InputError("a time is NaN or infinite", "give seconds since 1970")
    if (np.diff(seconds) < 0).any():
        raise InputError("the times of the history decrease", "give the events oldest first")
    asked = replace(history, times=seconds, request_times=np.array([request], np.float64))
    check_requests(asked)
    return asked


def check_requests(histories: Packed, names: Sequence[str] | None = None) -> None:
    """Raise InputError if a history has events after its request.  It needs the times of both.

    names: of the users, for the sentence.
    """
    last, asked = histories.last_times, histories.request_times
    assert asked is not None
    early = np.flatnonzero(asked < last)
    if early.size:
        first = int(early[0])
        raise InputError(
            f"the request is at {moment_in_words(asked[first])}, but the last event"
            + ("" if names is None else f" of user {names[first]!r}")
            + f" is later, at {moment_in_words(last[first])}"
            + (f", and so for {early.size:,} users" if early.size > 1 else ""),
            "give a later time (--at, or the time of the request in Python)",
        )


def moment_in_words(seconds: float) -> str:
    """The date of a time in seconds since 1970, with as many places of a second as it needs."""
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # beyond the year 9999
        return f"{seconds:g} s since 1970"
    fraction = f"{date.microsecond / 1e6:.6f}"[1:].rstrip("0").rstrip(".")
    return f"{date:%Y-%m-%d %H:%M:%S}{fraction} UTC"


def recommend_ids(
    saved: SavedModel,
    history: Sequence[str],
    k: int,
    *,
    times: Sequence[float] | None = None,
    request_time: float | None = None,
    mask_seen: bool = True,
) -> list[tuple[str, float]]:
    """Like :func:`recommend`, but with item ids in place of item indices, in the history and in the result.

    Retired items are left out.  Also raises InputError for an id that the model does not know, and if the
    model file has no ids.
    """
    if saved.item_ids is None:
        raise InputError(
            "the model file has the old format 1, which has no item ids",
            "train again, or load the model with its ids by Run.model_and_dataset",
        )
    index = {token: item for item, token in enumerate(saved.item_ids)}
    unknown = next((token for token in history if token not in index), None)
    if unknown is not None:
        raise InputError(
            f"the model has no item {unknown!r} among its {len(index)} items",
            "give items that it was trained on, such as " + ", ".join(map(repr, saved.item_ids[:3])),
        )
    best = recommend(
        saved.model,
        [index[token] for token in history],
        k,
        times=times,
        request_time=request_time,
        mask_seen=mask_seen,
        retired=saved.retired,
    )
    return [(saved.item_ids[item], score) for item, score in best]
