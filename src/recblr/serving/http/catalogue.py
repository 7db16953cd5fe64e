"""A search for people among the items of a model, by title and id."""

import unicodedata
from collections.abc import Mapping
from functools import cached_property

from recblr.serving.http.messages import KnownItem


class Catalogue:
    """The items of one engine.  What a server without a page never needs is made at its first use."""

    def __init__(self, item_ids: list[str], titles: Mapping[str, str]) -> None:
        self._ids = item_ids
        self._titles = titles

    @cached_property
    def _texts(self) -> list[str]:
        return [plain(f"{self._titles.get(item, '')} {item}") for item in self._ids]

    def search(self, words: str, count: int) -> list[KnownItem]:
        """The first `count` items whose title or id holds all of the words.

        The item with this id comes first, then items that begin with the words, then those with a word that
        begins with the first one.
        Without words, the items are spread over the catalogue.
        """
        wanted = plain(words).split()
        if not wanted:
            step = max(1, len(self._ids) // count)
            return [self._item(place) for place in range(0, len(self._ids), step)][:count]
        phrase, begin, id_ = " ".join(wanted), f" {wanted[0]}", words.strip()
        ranked: tuple[list[int], list[int], list[int]] = ([], [], [])
        for place, text in enumerate(self._texts):
            if all(word in text for word in wanted):
                ranked[0 if text.startswith(phrase) else 1 if begin in text else 2].append(place)
        places = [place for places in ranked for place in places]
        places.sort(key=lambda place: self._ids[place] != id_)  # stable
        return [self._item(place) for place in places[:count]]

    def _item(self, place: int) -> KnownItem:
        item = self._ids[place]
        return KnownItem(item, self._titles.get(item))


def plain(text: str) -> str:
    """The text in small letters and without accents, so that "amelie" finds "Amélie"."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()
