"""Downloads MovieLens from its publisher. Its terms do not allow a program to include it."""

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
"""Called with the number of bytes so far and the total number (None if the server does not say it)."""

_CHUNK = 2**16
_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """The archive of a dataset at its publisher.

    file: the name of the archive.
    md5: its checksum, in hex, as the publisher lists it.
    ratings, titles, readme: the members with the interactions, the titles of the films, and the terms of use.
    terms: the address of the terms of use.
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
    """The files of a downloaded dataset: interactions, titles of the items, terms of use."""

    ratings: Path
    titles: Path
    readme: Path


def archive(name: str) -> Archive:
    """The archive of the dataset with this name. InputError if there is none."""
    if name not in ARCHIVES:
        raise InputError(f"there is no dataset {name!r} to download", f"choose one of {', '.join(ARCHIVES)}")
    return ARCHIVES[name]


def download(
    name: str, folder: str | Path, *, source: str = PUBLISHER, progress: Progress | None = None
) -> Downloaded:
    """Fetch a dataset, one of ARCHIVES, compare its checksum, and unpack what training needs into `folder`.

    folder: a new folder; its parent folder must exist.
    source: where the archive is: the address of a folder (https:, http:, file:) or the path of one. It can be
        a mirror, or a folder with an archive that you fetched yourself.

    Raises InputError if the folder exists already or cannot be written to, if the archive cannot be fetched,
    or if its checksum is not the publisher's. After an exception, no file of the download remains.
    """
    wanted, folder = archive(name), Path(folder)
    if folder.exists() or folder.is_symlink():
        raise InputError(
            f"{folder} is there already", "use its content, delete it, or choose another folder with --to"
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
        raise InputError(f"the connection broke after {done:,} of {total:,} bytes of {address}", "try again")
    if digest.hexdigest() != wanted.md5:
        raise InputError(
            f"{address} is not the file that the publisher lists (its MD5 is {digest.hexdigest()}, not "
            f"{wanted.md5}), so it was deleted",
            "try again, or choose another source with recblr download --from (source= in Python)",
        )


def _chunks(address: str) -> Iterator[tuple[bytes, int | None]]:
    """The content in pieces, each with the total number of bytes."""
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as response:
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
        f"cannot fetch {address} ({reason})",
        "check the connection, or fetch the file in another way and name "
        "its folder with recblr download --from (source= in Python)",
    )
