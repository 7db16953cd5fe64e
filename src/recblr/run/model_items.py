"""New items for a trained model, and items that it must no longer recommend.  No training, and no torch.

A new item gets a row of the item table: one that is given, or the mean of the rows of similar items.  A
retired item keeps its row, so histories that hold it mean the same as before, but it is never recommended.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from recblr.errors import InputError
from recblr.run.model_content import ModelContent, check_ids
from recblr.run.model_tensors import EMBEDDING

Content = TypeVar("Content", bound=ModelContent)


def with_items(
    saved: Content,
    ids: Iterable[str | int],
    vectors: Any = None,
    *,
    like: Iterable[Iterable[str | int]] | None = None,
) -> Content:
    """The same model with N more items.  They come after the others, in the order of `ids`.

    Args:
        saved: a model with item ids.  It does not change.
        ids: the new ids, N different ones.
        vectors: ``(N, D)`` finite numbers, the rows of the new items.  They become float32.
        like: for each new item, the ids of similar items of `saved`.  Its row is the mean of theirs.  Give
            either this or `vectors`.

    Raises:
        InputError: an id exists, is given twice or is neither a text nor a whole number; there are no ids;
            the vectors have another shape, are no numbers, or are not finite in float32; a similar item is
            unknown, or there is none.
    """
    item_ids = saved.item_ids or []
    known = {name: number for number, name in enumerate(item_ids)}
    names = text_ids(ids, "the new items")
    taken = next((name for name in names if name in known), None)
    if taken is not None:
        raise InputError(f"the model has an item {taken!r} already", "give new items ids of their own")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"the new item {twice!r} is given twice", "give each id once")
    if (vectors is None) == (like is None):
        raise InputError("new items need either vectors or similar items", "give one of vectors= and like=")
    if like is None:
        rows = _as_rows(vectors, len(names), saved.table.shape[1])
    else:
        groups = _groups(like, names, known)
        means = [np.mean(saved.table[group], 0, np.float64) for group in groups]
        rows = np.stack(means).astype(np.float32)
    tensors = {**saved.tensors, EMBEDDING: np.concatenate([saved.table, rows])}
    check_ids([*item_ids, *names], len(tensors[EMBEDDING]))
    return changed(saved, item_ids=[*item_ids, *names], tensors=tensors)


def without_items(saved: Content, ids: Iterable[str | int]) -> Content:
    """The same model, which no longer recommends these items.  They stay in the table, for histories.

    saved: a model with item ids.  It does not change.
    ids: of items of the model; those of items that are retired already change nothing.

    Raises InputError if an id is unknown, if there are none, or if no item would be left to recommend.
    """
    known = {name: number for number, name in enumerate(saved.item_ids or [])}
    retired = sorted({*saved.retired, *known_items(ids, known, "the items to retire")})
    if len(retired) == saved.num_items:
        raise InputError(
            f"all {saved.num_items} items of the model would be retired", "leave one to recommend"
        )
    return changed(saved, retired=tuple(retired))


def _groups(
    like: Iterable[Iterable[str | int]], names: list[str], known: Mapping[str, int]
) -> list[list[int]]:
    """The numbers of the items that each new item is like."""
    if isinstance(like, str | bytes | Mapping) or not isinstance(like, Iterable):
        raise InputError(
            "like= must be a list with a list of similar items for each new item", "give such a list"
        )
    groups = list(like)
    if len(groups) != len(names):
        raise InputError(
            f"there are {len(names)} new items, but {len(groups)} lists in like=", "give one for each"
        )
    return [
        known_items(group, known, f"like= of {name!r}") for name, group in zip(names, groups, strict=True)
    ]


def changed(saved: Content, **others: Any) -> Content:
    """The content with other values.  Its origin is the file that it was read from."""
    return replace(saved, digest=None, origin=saved.origin or saved.digest, **others)


def known_items(ids: Iterable[str | int], known: Mapping[str, int], what: str) -> list[int]:
    """The numbers of these items.  InputError if there are none, or if one is unknown.

    known: the numbers of all items, by id.
    what: what the ids are, for the error.
    """
    names = text_ids(ids, what)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise InputError(
            f"the model has no item {unknown!r} among its {len(known)} items, which {what} should name",
            "give items of the model" + ("" if not known else f", such as {next(iter(known))!r}"),
        )
    return [known[name] for name in names]


def text_ids(ids: Iterable[str | int], what: str) -> list[str]:
    """These ids as texts.  InputError if there are none, or if one is neither a text nor a whole number."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise InputError(f"{what} must be a list of ids, but are {ids!r}", "put the id into a list")
    names = [text_id(value, what) for value in ids]
    if not names:
        raise InputError(f"the list of {what.removeprefix('the ')} is empty", "give one id or more")
    return names


def text_id(value: Any, what: str) -> str:
    """An id as text.  A whole number names the item whose id is that number in decimal: 7 is "7"."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise InputError(
        f"an id of {what} is neither a text nor a whole number, but {value!r}", "convert it with str()"
    )


def _as_rows(vectors: Any, count: int, width: int) -> np.ndarray:
    """Vectors as ``(N, D)`` float32.  InputError if they are not."""
    try:
        given = np.asarray(vectors)
    except ValueError:  # rows of different lengths
        given = np.asarray(None)
    if given.dtype.kind not in "fiu":
        raise InputError("the vectors are not an array of real numbers", f"give ({count}, {width}) of them")
    if given.shape != (count, width):
        raise InputError(
            f"the vectors have the shape {given.shape}, but {count} new item(s) of the width {width} need"
            f" ({count}, {width})",
            "give one row for each new item",
        )
    with np.errstate(over="ignore"):
        rows = given.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(wrong):
        raise InputError(
            f"the vector of new item {wrong[0]} holds NaN, or numbers that are infinite in float32",
            "give finite numbers",
        )
    return rows
