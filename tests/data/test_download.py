"""A download gives the complete, checked dataset, or no file at all."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from data.publisher import MEMBERS, publish

from recblr.data import download as downloads
from recblr.data import read_dataset
from recblr.data.download import ARCHIVES, PUBLISHER, download
from recblr.errors import InputError
from recblr.io.titles import read_titles


@pytest.fixture
def publisher(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    return publish(tmp_path_factory.mktemp("publisher"), monkeypatch)


@contextmanager
def serving(status: int, content: bytes, length: int) -> Iterator[str]:
    """A server that gives the same answer to every request; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/movielens/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_download_has_only_the_files_that_training_needs(
    tmp_path: Path, publisher: Path, name: str
) -> None:
    files = download(name, tmp_path / "films", source=publisher.as_uri())
    assert {path.name: path.read_bytes() for path in (tmp_path / "films").iterdir()} == {
        path.name: MEMBERS[name][path.name] for path in (files.ratings, files.titles, files.readme)
    }
    assert read_dataset(files.ratings, min_rating=4).num_interactions == 81
    assert read_titles(files.titles)["8"] == "Amélie 8"
    assert [path.name for path in tmp_path.iterdir()] == ["films"]


def test_the_source_can_be_a_server_or_a_folder(tmp_path: Path, publisher: Path) -> None:
    content = (publisher / "ml-1m.zip").read_bytes()
    with serving(200, content, len(content)) as address:
        download("ml-1m", tmp_path / "one", source=address)
    download("ml-1m", tmp_path / "two", source=str(publisher))
    assert (tmp_path / "one" / "README").read_bytes() == (tmp_path / "two" / "README").read_bytes()


def test_progress_has_the_bytes_so_far_and_the_total(
    tmp_path: Path, publisher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_CHUNK", 100)
    calls: list[tuple[int, int | None]] = []
    download("ml-1m", tmp_path / "f", source=publisher.as_uri(), progress=lambda *now: calls.append(now))
    size = (publisher / "ml-1m.zip").stat().st_size
    assert [done for done, _ in calls] == [*range(100, size, 100), size]
    assert {total for _, total in calls} == {size}


def test_the_addresses_and_checksums_are_the_publishers() -> None:
    assert PUBLISHER.startswith("https://files.grouplens.org/")
    assert {name: archive.md5 for name, archive in ARCHIVES.items()} == {
        "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
        "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    }


def assert_refused(folder: Path, source: str, says: str, name: str = "ml-1m") -> None:
    before = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
    with pytest.raises(InputError, match=says) as raised:
        download(name, folder, source=source)
    assert "\n" not in str(raised.value)
    assert (sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []) == before


def test_a_wrong_checksum_is_refused(tmp_path: Path, publisher: Path) -> None:
    shutil.copyfile(publisher / "ml-100k.zip", publisher / "ml-1m.zip")
    assert_refused(tmp_path / "f", str(publisher), r"is not the file that the publisher lists \(its MD5 is")


def test_a_broken_connection_is_not_taken_for_a_wrong_file(tmp_path: Path, publisher: Path) -> None:
    content = (publisher / "ml-1m.zip").read_bytes()
    with serving(200, content[:300], len(content)) as address:
        assert_refused(tmp_path / "f", address, f"(broke after 300 of {len(content):,} bytes|cannot fetch)")


def test_the_error_has_the_answer_of_the_server(tmp_path: Path) -> None:
    with serving(404, b"", 0) as address:
        assert_refused(
            tmp_path / "f", address, r"cannot fetch .*ml-1m\.zip \(the server answers 404 Not Found\)"
        )


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:9/",  # no server listens there
        "http://no.such.host.invalid/",
        "gopher://example.org/",
        "http://",
        "file:///no/such/folder/",
        "no/such/folder",
    ],
)
def test_a_source_out_of_reach_is_named(tmp_path: Path, source: str) -> None:
    assert_refused(tmp_path / "f", source, r"cannot fetch .*ml-1m\.zip \(.+\); check the connection.*--from")


def test_a_server_that_sends_nothing_gives_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert_refused(tmp_path / "f", address, r"cannot fetch .*timed out")


def test_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    assert_refused(
        tmp_path / "f", ".", "no dataset 'ml-2m' to download; choose one of ml-1m, ml-100k", "ml-2m"
    )


@pytest.mark.parametrize("kind", ["a folder", "an empty folder", "a file", "a broken link"])
def test_an_existing_target_is_refused_and_stays_unchanged(
    tmp_path: Path, publisher: Path, kind: str
) -> None:
    target = tmp_path / "films"
    if kind == "a file":
        target.write_text("mine")
    elif kind == "a broken link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.mkdir()
        if kind == "a folder":
            (target / "ratings.dat").write_text("mine")
    assert_refused(target, str(publisher), "films is there already; .*--to")
    if kind == "a folder":
        assert (target / "ratings.dat").read_text() == "mine"


def test_a_missing_parent_folder_is_refused(tmp_path: Path, publisher: Path) -> None:
    assert_refused(
        tmp_path / "none" / "films", str(publisher), "cannot write .*films: No such file.*that exists"
    )
    (tmp_path / "file").write_text("")
    assert_refused(tmp_path / "file" / "films", str(publisher), "cannot write .*films: Not a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, publisher: Path) -> None:
    tmp_path.chmod(0o500)
    assert_refused(tmp_path / "films", str(publisher), "cannot write .*films: Permission denied")


@pytest.mark.parametrize("when", ["fetching", "unpacking", "finishing"])
def test_a_full_disk_leaves_no_file(
    tmp_path: Path, publisher: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if when == "fetching":
        # The archive is written while it is fetched, so the disk fills up in `write`.
        real = Path.open

        class Full:
            def __init__(self, file: object) -> None:
                self.file = file

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()  # type: ignore[attr-defined]

            write = full

        monkeypatch.setattr(Path, "open", lambda self, *mode: Full(real(self, *mode)))
    elif when == "unpacking":
        monkeypatch.setattr(shutil, "copyfileobj", full)
    else:
        monkeypatch.setattr(os, "fsync", full)
    assert_refused(tmp_path / "films", str(publisher), "cannot write .*films: No space left on device")


@pytest.mark.parametrize("after", [1, 3])
def test_ctrl_c_leaves_no_file(
    tmp_path: Path, publisher: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(downloads, "_CHUNK", 100)
    calls = []

    def press(done: int, total: int | None) -> None:
        calls.append(done)
        if len(calls) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download("ml-1m", tmp_path / "films", source=str(publisher), progress=press)
    assert list(tmp_path.iterdir()) == []
