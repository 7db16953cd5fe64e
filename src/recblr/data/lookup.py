"""The sentence for an id that is not in the data, with the ids that it may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

# difflib compares pair by pair, so a catalogue of millions is thinned to this many candidates first.
_MOST_CANDIDATES = 5_000


def unknown_id(kind: str, token: str, known: Sequence[str], data: str) -> str:
    """One sentence that says that `known`, the ids of one kind ("user", "item"), lack `token`.

    It names close matches where there are some, else a few ids that exist.
    """
    near = _close_matches(token, known)
    if near:
        hint = f"did you mean {_listed(near, 'or')}?"
    elif known:
        hint = f"give one of the ids in the data, such as {_listed(known[:3], 'or')}"
    else:
        hint = f"it has no {kind}s at all"
    return (
        f"{data} has no {kind} {token!r} among its {len(known)} {kind}s "
        f"(those with few interactions are filtered out): {hint}"
    )


def _close_matches(token: str, known: Sequence[str]) -> list[str]:
    folded = token.casefold()
    candidates: dict[str, str] = {}
    for other in known:
        if abs(len(other) - len(token)) <= 2 and other[:1].casefold() == folded[:1]:
            candidates.setdefault(other.casefold(), other)
            if len(candidates) == _MOST_CANDIDATES:
                break
    return [candidates[match] for match in difflib.get_close_matches(folded, candidates, n=3, cutoff=0.7)]


def _listed(tokens: Sequence[str], word: str) -> str:
    quoted = [repr(token) for token in tokens]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {word} {quoted[-1]}"
