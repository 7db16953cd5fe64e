"""MovieLens from its publisher onto the user's own machine: its terms forbid passing it on with a program."""

from __future__ import annotations

import hashlib
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from recblr.errors import InputError
from recblr.io.atomic import atomic_folder

PUBLISHER = "https://files.grouplens.org/datasets/movielens/"

Progress = Callable[[int, int | None], object]
"""Told the bytes that have come and the bytes in all, None where nobody says."""

_CHUNK = 2**16
_PATIENCE = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A dataset at its publisher.

    file: its name there. md5: in hex, as the publisher lists it. ratings, titles: the members that hold the
    interactions and the films' titles. readme: the member with the terms of use. terms: their address.
    """

    file: str
    md5: str
    ratings: str
    titles: str
    readme: str
    terms: str


ARCHIVES = {
    "ml-1m": Archive(
        file="ml-1m.zip",
        md5="c4d9eecfca2ab87c1945afe126590906",
        ratings="ml-1m/ratings.dat",
        titles="ml-1m/movies.dat",
        readme="ml-1m/README",
        terms=PUBLISHER + "ml-1m-README.txt",
    ),
    "ml-100k": Archive(
        file="ml-100k.zip",
        md5="0e33842e24a9c977be4e0107933c0723",
        ratings="ml-100k/u.data",
        titles="ml-100k/u.item",
        readme="ml-100k/README",
        terms=PUBLISHER + "ml-100k-README.txt",
    ),
}


@dataclass(frozen=True)
class Downloaded:
    """The files of a dataset that was downloaded: interactions, titles of the items, terms of use."""

    ratings: Path
    titles: Path
    readme: Path


def archive(name: str) -> Archive:
    """The dataset of that name; InputError where there is none."""
    if name not in ARCHIVES:
        raise InputError(f"there is no dataset {name!r} to download: choose one of {', '.join(ARCHIVES)}")
    return ARCHIVES[name]


def download(
    name: str, folder: str | Path, *, source: str = PUBLISHER, progress: Progress | None = None
) -> Downloaded:
    """Fetch a dataset, one of ARCHIVES, compare its checksum, and unpack what training needs into `folder`.

    folder: must not be there yet; the folder that it is made in must.
    source: the address of the folder that has the archive (https:, http:, file:), or a folder's path, for
        mirrors and for archives that were fetched by other means.

    Raises InputError where the folder is there or cannot be written, the archive cannot be fetched, or it is
    not the one that the publisher lists. After any exception, nothing is left behind.
    """
    wanted, folder = archive(name), Path(folder)
    if folder.exists() or folder.is_symlink():
        raise InputError(
            f"{folder} is there already: use what is in it, delete it, or choose another folder with --to"
        )
    with atomic_folder(folder) as draft:
        packed = draft / wanted.file
        _fetch(_address(source, wanted.file), packed, wanted, progress or (lambda done, total: None))
        with zipfile.ZipFile(packed) as members:
            for member in (wanted.ratings, wanted.titles, wanted.readme):
                with members.open(member) as content, (draft / _base(member)).open("xb") as file:
                    shutil.copyfileobj(content, file)
        packed.unlink()
    return Downloaded(*(folder / _base(member) for member in (wanted.ratings, wanted.titles, wanted.readme)))


def _base(member: str) -> str:
    return PurePosixPath(member).name


def _address(source: str, file: str) -> str:
    if "://" not in source and not source.startswith("file:"):
        return (Path(source).resolve() / file).as_uri()
    return f"{source.rstrip('/')}/{file}"


def _fetch(address: str, path: Path, wanted: Archive, progress: Progress) -> None:
    digest, done, total = hashlib.md5(usedforsecurity=False), 0, None
    with path.open("xb") as file:
        for chunk, total in _chunks(address):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    if total is not None and done < total:
        raise InputError(f"the connection broke after {done:,} of {total:,} bytes of {address}: try again")
    if digest.hexdigest() != wanted.md5:
        raise InputError(
            f"{address} is not the file that its publisher lists (its MD5 is {digest.hexdigest()}, not "
            f"{wanted.md5}), so nothing of it is kept: try again, or fetch it from another source "
            "with recblr download --from"
        )


def _chunks(address: str) -> Iterator[tuple[bytes, int | None]]:
    """The content piece by piece, each with the number of bytes in all."""
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            while chunk := response.read(_CHUNK):
                yield chunk, total
    except urllib.error.HTTPError as error:
        raise _unreachable(address, f"the server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise _unreachable(address, getattr(reason, "strerror", None) or str(reason)) from None


def _unreachable(address: str, reason: str) -> InputError:
    return InputError(
        f"cannot fetch {address} ({reason}): check the connection, or fetch the file by other means and give "
        "the folder that has it with recblr download --from (source= in Python)"
    )
