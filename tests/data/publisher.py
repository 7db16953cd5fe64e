"""A publisher of MovieLens on this machine. Its archives have the form of the real ones, but few ratings."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from recblr.data import download

MEMBERS: Mapping[str, Mapping[str, bytes]] = {
    "ml-1m": {
        "README": b"the terms\n",
        "ratings.dat": "".join(f"{u}::{i}::4::{9 * u + i}\n" for u in range(9) for i in range(9)).encode(),
        "movies.dat": "".join(f"{i}::Amélie {i}::Comedy\n" for i in range(9)).encode("latin-1"),
        "users.dat": b"1::F::1::10::48067\n",
    },
    "ml-100k": {
        "README": b"the terms\n",
        "u.data": "".join(f"{u}\t{i}\t4\t{9 * u + i}\n" for u in range(9) for i in range(9)).encode(),
        "u.item": "".join(f"{i}|Amélie {i}|01-Jan-1995||\n" for i in range(9)).encode("latin-1"),
        "mku.sh": b"exit 1\n",
    },
}


def publish(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Write the archives into the folder. While the patch lasts, downloads expect their checksums."""
    for name, members in MEMBERS.items():
        path = folder / f"{name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(f"{name}/{member}", content)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        patch.setitem(download.ARCHIVES, name, replace(download.ARCHIVES[name], md5=md5))
    return folder
