"""A dataset in memory: every user's history and the ids that users and items go by outside."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from recblr.data import storage
from recblr.data.lookup import unknown_id
from recblr.data.packed import Packed
from recblr.errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Histories of users over a catalogue of items.

    histories: one history a user, in the order of user_ids; its items index item_ids.
    user_ids, item_ids: the ids that the data's owner uses, always strings, each once.

    Raises ValueError where the parts do not fit each other.
    """

    name: str
    histories: Packed
    user_ids: list[str]
    item_ids: list[str]

    def __post_init__(self) -> None:
        if len(self.histories) != len(self.user_ids):
            raise ValueError(f"{len(self.histories)} histories cannot belong to {len(self.user_ids)} users")
        items = self.histories.items
        if items.size and (items.min() < 0 or items.max() >= len(self.item_ids)):
            raise ValueError(f"histories hold an item outside the catalogue of {len(self.item_ids)}")
        for kind, ids in (("user", self.user_ids), ("item", self.item_ids)):
            if len(set(ids)) != len(ids):
                raise ValueError(f"{kind} ids must differ from each other")

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def num_interactions(self) -> int:
        return self.histories.items.size

    @property
    def mean_length(self) -> float:
        """Events a user, 0.0 where there are no users."""
        return self.num_interactions / self.num_users if self.num_users else 0.0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex over ids and events; the same content has the same fingerprint under any name."""
        digest = hashlib.sha256()
        for ids in (self.user_ids, self.item_ids):
            encoded = [token.encode() for token in ids]
            # Lengths go first, so that no two lists of ids run together to the same bytes.
            digest.update(np.array([len(ids), *map(len, encoded)], dtype="<i8").tobytes())
            digest.update(b"".join(encoded))
        digest.update(self.histories.offsets.astype("<i8").tobytes())
        digest.update(self.histories.items.astype("<i8").tobytes())
        return digest.hexdigest()

    def user_index(self, token: str) -> int:
        """The index of a user's history; InputError for an unknown user."""
        index = self._user_positions.get(token)
        if index is None:
            raise InputError(unknown_id("user", token, self.user_ids, self.name))
        return index

    def item_index(self, token: str) -> int:
        """The index of an item in the catalogue; InputError for an unknown item."""
        index = self._item_positions.get(token)
        if index is None:
            raise InputError(unknown_id("item", token, self.item_ids, self.name))
        return index

    def save(self, directory: str | Path) -> None:
        """Write the dataset into a folder, which is made where it is missing.

        Raises InputError where the folder cannot be written to.
        """
        parts = storage.Parts(self.name, self.fingerprint, self.histories, self.user_ids, self.item_ids)
        storage.write(Path(directory), parts)

    @classmethod
    def load(cls, directory: str | Path) -> Dataset:
        """Read what save wrote; InputError where a file is missing, damaged or of another dataset."""
        parts = storage.read(Path(directory))
        try:
            dataset = cls(parts.name, parts.histories, parts.user_ids, parts.item_ids)
        except ValueError:
            raise storage.damaged(Path(directory)) from None
        if dataset.fingerprint != parts.fingerprint:
            raise storage.damaged(Path(directory))
        return dataset

    @cached_property
    def _user_positions(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.user_ids)}

    @cached_property
    def _item_positions(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.item_ids)}
