"""A store on disk that is damaged, foreign, full or read-only: one sentence, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from serving.stores.places import MEMORY, missing

from recblr.errors import InputError
from recblr.serving import LMDBStore, StoreError
from recblr.serving.stores import lmdb as lmdb_store
from recblr.serving.stores import lmdb_folder, log
from recblr.serving.stores.store import Batch

lmdb = pytest.importorskip("lmdb", reason=missing("lmdb") or "it is there")
FIRST = "events-0000000000000000.log"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory, where there is one: these tests wait for the disk thousands of times."""
    with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_FILE_BYTES", 1 << 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def add(store: LMDBStore, *events: tuple[str, str]) -> int:
    with store.transaction([user for user, _ in events]) as transaction:
        return transaction.append(Batch([u for u, _ in events], [i for _, i in events], [1.5] * len(events)))


def made(path: Path, folded: bool = False) -> None:
    """A store with three groups."""
    with LMDBStore(path) as store:
        for number in range(3):
            add(store, ("a", f"i{number}"), ("b", f"i{number}"))
        if folded:
            store.fold()
            store.put_states("model", {"a": (store.version("a"), b"state" * 1000)})


def read(path: Path) -> dict[str, list[str]]:
    with LMDBStore(path) as store:
        return {user: store.history(user).items for user in sorted(store.users())}


WHOLE = {"a": ["i0", "i1", "i2"], "b": ["i0", "i1", "i2"]}


def sentence(call: Callable[[], object], *parts: str, kind: type[InputError] = InputError) -> None:
    with pytest.raises(kind) as refused:
        call()
    text = str(refused.value)
    assert "\n" not in text
    assert all(part in text for part in parts), text
    assert refused.value.remedy


@contextmanager
def file_size(most: int) -> Iterator[None]:
    """No file may be longer, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_of_something_else_is_refused(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("by hand")
    sentence(lambda: LMDBStore(path), "is not a store of recblr: it holds thesis.tex", "an empty folder")
    assert [entry.name for entry in path.iterdir()] == ["thesis.tex"]


def test_a_database_of_someone_else_is_refused(path: Path) -> None:
    lmdb.open(str(path)).close()
    sentence(lambda: LMDBStore(path), "is not a store of recblr")


def test_a_file_is_refused(path: Path) -> None:
    path.write_text("a file")
    sentence(lambda: LMDBStore(path), str(path), "File exists")
    sentence(lambda: LMDBStore(path / "in it"), str(path), "Not a directory")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "no json", '{"format": "recblr store", "layout": 1, "id": "x"}']
)
def test_a_damaged_description_is_refused(path: Path, content: str) -> None:
    made(path)
    (path / "store.json").write_text(content)
    sentence(lambda: LMDBStore(path), "store.json is damaged", "restore a backup", kind=StoreError)


def test_another_layout_is_refused(path: Path) -> None:
    made(path)
    content = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps({**content, "layout": 2}))
    sentence(
        lambda: LMDBStore(path), "has the layout 2, but this recblr knows only 1", "install a later recblr"
    )


def test_parts_of_two_stores_are_refused(path: Path, tmp_path: Path) -> None:
    made(path)
    made(tmp_path / "other")
    for name in ("data.mdb", FIRST):
        mixed = tmp_path / f"mixed {name}"
        shutil.copytree(path, mixed)
        shutil.copyfile(tmp_path / "other" / name, mixed / name)
        sentence(
            lambda mixed=mixed: LMDBStore(mixed), "store", "restore a backup of all files", kind=StoreError
        )


@pytest.mark.parametrize("fill", ["zeros", "garbage", "short"])
def test_the_beginning_of_a_record_is_cut_off(path: Path, tmp_path: Path, fill: str) -> None:
    """As a writer leaves it that is killed, or a disk that loses its power."""
    with LMDBStore(path) as store:
        add(store, ("a", "i0"))
        add(store, ("a", "i1"))
        begin = store._log.end
        (tmp_path / "end").write_bytes((path / "end").read_bytes())
        add(store, ("a", "i2"), ("b", "i3"))
        end = store._log.end
    data = (path / FIRST).read_bytes()
    random_ = random.Random(0)
    for cut in range(begin, end + 1):
        folder = tmp_path / f"{cut}"
        shutil.copytree(path, folder, ignore=shutil.ignore_patterns("data.mdb", "lock.mdb"))
        shutil.copyfile(path / "data.mdb", folder / "data.mdb")
        shutil.copyfile(tmp_path / "end", folder / "end")
        rest = {"zeros": bytes(500), "garbage": random_.randbytes(500), "short": b""}[fill]
        (folder / FIRST).write_bytes(data[:cut] + rest)
        whole = cut == end or (fill == "zeros" and not any(data[cut:end]))
        assert read(folder) == ({"a": ["i0", "i1", "i2"], "b": ["i3"]} if whole else {"a": ["i0", "i1"]})
        with LMDBStore(folder) as store:
            add(store, ("c", "i4"))
        assert read(folder)["c"] == ["i4"]
        shutil.rmtree(folder)


@pytest.mark.parametrize("end_is_lost", [False, True])
def test_damage_to_acknowledged_events_is_found(path: Path, tmp_path: Path, end_is_lost: bool) -> None:
    with LMDBStore(path) as store:
        add(store, ("a", "i0"), ("b", "i0"))
        last = store._log.end
        add(store, ("a", "i1"), ("b", "i1"))
        end = store._log.end
    data = bytearray((path / FIRST).read_bytes())
    # If `end` is lost, damage to the last record looks like the beginning of a record.
    for at in range(0, last if end_is_lost else end, 3):
        data[at] ^= 1 << at % 8
        (path / FIRST).write_bytes(data)
        if end_is_lost:
            (path / "end").unlink(missing_ok=True)
        sentence(lambda: read(path), FIRST, kind=InputError)
        data[at] ^= 1 << at % 8
    (path / FIRST).write_bytes(data)
    assert read(path) == {"a": ["i0", "i1"], "b": ["i0", "i1"]}


@pytest.mark.parametrize("name", [FIRST, "data.mdb"])
@pytest.mark.parametrize("folded", [False, True])
def test_short_files_are_found(path: Path, name: str, folded: bool) -> None:
    made(path, folded)
    data = (path / name).read_bytes()
    short = (0, 1, 40, 100, 200) if name == FIRST else (1, 100, 4096, 8192, 8193, len(data) - 1)
    for size in short:
        (path / name).write_bytes(data[:size])
        if folded and name == FIRST and size >= 48:
            continue  # what is missing was folded
        sentence(lambda: read(path), "restore", kind=StoreError)


@pytest.mark.parametrize("pages", [1, 2, 3, 5])
def test_pages_that_are_missing_at_the_end_are_of_no_use_or_found(path: Path, pages: int) -> None:
    made(path, folded=True)
    with (path / "data.mdb").open("r+b") as file:
        file.truncate((path / "data.mdb").stat().st_size - pages * 4096)
    with suppress(StoreError):
        assert read(path) == WHOLE


def test_files_of_the_log_that_are_missing_are_found(path: Path) -> None:
    made(path)
    (path / FIRST).unlink()
    (path / "end").unlink()
    sentence(lambda: LMDBStore(path), "the log in", "is missing; restore a backup", kind=StoreError)
    other = path.with_name("other")
    made(other, folded=True)
    (other / FIRST).unlink()
    sentence(lambda: LMDBStore(other), "the log in", "is missing; restore a backup", kind=StoreError)
    (other / FIRST).write_bytes(b"")
    sentence(lambda: LMDBStore(other), FIRST, "is damaged", kind=StoreError)


def test_a_log_that_begins_too_late_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_FILE_BYTES", 200)
    made(path)
    (path / FIRST).unlink()
    sentence(
        lambda: LMDBStore(path), "does not have the events after place 0", "restore a backup", kind=StoreError
    )


def test_a_damaged_history_is_found(path: Path) -> None:
    made(path, folded=True)
    with LMDBStore(path) as store:
        with store._env.begin(write=True) as txn:
            cursor = txn.cursor(store._dbs["histories"])
            cursor.first()
            value = bytearray(cursor.value())
            value[-1] ^= 1
            txn.put(cursor.key(), bytes(value), db=store._dbs["histories"])
        sentence(lambda: store.history("a"), "the history of user 'a' cannot be read", kind=StoreError)
        assert store.history("b").items == WHOLE["b"]


def test_a_new_store_on_a_full_disk(path: Path) -> None:
    for size in (0, 10, 1000, 1 << 15):
        with file_size(size):
            sentence(lambda: LMDBStore(path), str(path), "make room", kind=StoreError)
    made(path)
    assert read(path) == WHOLE


def test_a_full_disk_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_FILE_BYTES", 8192)
    with LMDBStore(path) as store:
        add(store, ("a", "i0"))
        with file_size(4096):
            added, refused = 1, 0
            while not refused:
                try:
                    add(store, ("a", f"i{added}"), *[("filler", "x" * 50)] * 10)
                    added += 1
                except StoreError as error:
                    refused += "File too large; make room" in str(error)
            sentence(lambda: store.fold(), str(path), kind=StoreError)
            sentence(
                lambda: store.put_states("m", {"a": (store.version("a"), b"s" * 99999)}), kind=StoreError
            )
            assert store.history("a").items == [f"i{number}" for number in range(added)]
        for number in range(50):
            add(store, ("a", f"i{added + number}"))
        wanted = [f"i{number}" for number in range(added + 50)]
        assert store.history("a").items == wanted
        store.fold()
        store.put_states("m", {"a": (store.version("a"), b"s" * 99999)})
        assert store.state("a", "m") == (store.version("a"), b"s" * 99999)
        assert store.history("a").items == wanted
    assert read(path)["a"] == wanted


def test_a_disk_that_is_full_for_a_part_of_a_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LMDBStore(path) as store:
        add(store, ("a", "i0"))
        write, sizes = os.pwrite, iter([10, 0])

        def some(file: int, data: memoryview, at: int) -> int:
            size = next(sizes)
            if not size:
                raise OSError(28, os.strerror(28))
            return write(file, data[:size], at)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", some)
            sentence(lambda: add(store, ("a", "lost")), "No space left on device; make room", kind=StoreError)
        add(store, ("a", "i1"))
        assert store.history("a").items == ["i0", "i1"]
    assert read(path) == {"a": ["i0", "i1"]}


def test_a_disk_that_fails_to_sync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LMDBStore(path) as store, LMDBStore(path) as other:
        add(store, ("a", "i0"))

        def fails(file: int) -> None:
            raise OSError(5, os.strerror(5))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fails)
            sentence(lambda: add(store, ("a", "lost")), "Input/output error", kind=StoreError)
            assert other.history("a").items == ["i0"]
        add(other, ("a", "i1"))
        assert store.history("a").items == ["i0", "i1"]


def test_the_address_space_may_be_used_up(path: Path) -> None:
    with LMDBStore(path, addresses=1 << 18) as store:
        add(store, *[("a", "x" * 50)] * 5000)
        sentence(store.fold, "has used its 262,144 bytes of address space", "addresses=", kind=StoreError)
        assert len(store.history("a").items) == 5000
        sentence(lambda: LMDBStore(path, addresses=1 << 19), "addresses=262,144", "the same number")
    with LMDBStore(path) as store:
        store.fold()
        assert len(store.history("a").items) == 5000


def in_a_process(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_process_with_little_address_space(path: Path) -> None:
    made(path)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30));"
        "from recblr.serving import LMDBStore; print(LMDBStore(sys.argv[1]).history('a').items)"
    )
    assert in_a_process(script, path) == "['i0', 'i1', 'i2']\n"


@pytest.mark.parametrize("new", [True, False])
def test_a_read_only_folder(path: Path, new: bool) -> None:
    """In a process without the rights of root, whom no folder stops."""
    folder = Path("/tmp") / f"recblr-{os.getpid()}-{new}"  # others may reach it
    try:
        made(folder / "store")
        if new:
            shutil.rmtree(folder / "store")
        os.chmod(folder, 0o555)
        script = (
            "import os, sys\nfrom recblr.serving import LMDBStore\n"
            "from recblr.serving.stores import lmdb\nimport lmdb\n"
            "if os.getuid() == 0: os.setuid(65534)\n"
            "try: LMDBStore(sys.argv[1])\nexcept ValueError as error: print(error)"
        )
        said = in_a_process(script, folder / "store")
        assert "Permission denied; make room, or make the folder writable" in said
        assert said.count("\n") == 1
    finally:
        os.chmod(folder, 0o755)
        shutil.rmtree(folder)


def test_a_store_that_was_opened_before_a_fork(path: Path) -> None:
    with LMDBStore(path) as store:
        add(store, ("a", "i0"))
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            said = "no error"
            try:
                add(store, ("a", "i1"))
            except InputError as error:
                said = str(error)
            try:
                LMDBStore(path)
            except InputError as error:
                said += f"; {error}"
            os.write(write_end, said.encode())
            os._exit(0)
        os.waitpid(child, 0)
        first, second = os.read(read_end, 1000).decode().split(f"; the store {path} was open")
        assert first.endswith("was opened before a fork; open it in each process, after the fork")
        assert second == " when this process was forked; close it before the fork"
        os.close(read_end), os.close(write_end)
        assert store.history("a").items == ["i0"]


def test_a_store_that_was_closed_before_a_fork(path: Path) -> None:
    made(path)
    child = os.fork()
    if not child:
        with LMDBStore(path) as own:
            add(own, ("a", "i3"))
            own.fold()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert read(path)["a"] == ["i0", "i1", "i2", "i3"]


def test_a_missing_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    sentence(lambda: LMDBStore(path), "needs the package lmdb", "pip install 'recblr[serve]'")


def test_a_backup_is_a_store_of_one_moment(path: Path, tmp_path: Path) -> None:
    with LMDBStore(path) as store:
        ended = threading.Event()

        def adds() -> None:
            number = 0
            while not ended.is_set():
                add(store, ("a", f"i{number}"), ("b", f"i{number}"))
                number += 1
                if number % 50 == 0:
                    store.fold()

        thread = threading.Thread(target=adds)
        thread.start()
        for number in range(4):
            acknowledged = len(store.history("a").items)
            store.backup(tmp_path / f"copy{number}")
            found = read(tmp_path / f"copy{number}")
            assert len(found.get("a", [])) >= acknowledged
            assert (
                found.get("a", []) == found.get("b", []) == [f"i{n}" for n in range(len(found.get("a", [])))]
            )
        ended.set()
        thread.join()
        sentence(lambda: store.backup(tmp_path / "copy0"), "exists already", "a new folder")
        with file_size(100):
            sentence(lambda: store.backup(tmp_path / "copy9"), "make room", kind=StoreError)


def test_the_files_are_described(path: Path) -> None:
    """docs/stores.md has this list."""
    made(path, folded=True)
    names = {"data.mdb", "lock.mdb", "store.json", "lock", "fold", "end", FIRST}
    assert {entry.name for entry in path.iterdir()} == names
    assert lmdb_folder._LAYOUT == 1


def test_half_a_backup_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*files: Path) -> None:
        raise OSError(28, "No space left on device")

    with LMDBStore(tmp_path / "store") as store, monkeypatch.context() as patch:
        patch.setattr(lmdb_store, "_sync", full)
        with pytest.raises(StoreError, match="make room"):
            store.backup(tmp_path / "half")
    assert not (tmp_path / "half" / "store.json").exists()
    with pytest.raises(InputError):
        LMDBStore(tmp_path / "half")


def test_closing_waits_for_a_writer(path: Path) -> None:
    """A program may close its store while a thread in the background still writes states."""
    store = LMDBStore(path)
    add(store, ("a", "i1"))
    inside, go_on = threading.Event(), threading.Event()
    raised: list[BaseException] = []  # keeps the writer's frames, as a log of errors does

    def write() -> None:
        try:
            with store._txn(write=True) as txn:
                inside.set()
                go_on.wait(10)
                txn.put(b"key", b"value", db=store._dbs["meta"])
        except BaseException as error:
            raised.append(error)

    writer = threading.Thread(target=write, daemon=True)
    closer = threading.Thread(target=store.close, daemon=True)
    writer.start()
    assert inside.wait(10)
    closer.start()
    closer.join(0.2)
    go_on.set()
    for thread in (writer, closer):
        thread.join(10)
        assert not thread.is_alive()
    assert raised == []


def test_a_refused_event_never_counts_although_its_record_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: int) -> None:
        raise OSError(5, os.strerror(5))

    def refused(store: LMDBStore, event: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fails)
            patch.setattr(os, "ftruncate", fails)
            sentence(lambda: add(store, ("a", event)), "Input/output error", kind=StoreError)

    with LMDBStore(path) as store, LMDBStore(path) as other:
        add(store, ("a", "i0"))
        refused(store, "refused")
        add(other, ("a", "i1"))
        (path.parent / "end").write_bytes((path / "end").read_bytes())
        add(other, ("a", "i2"))
        refused(store, "refused too")
    assert read(path) == {"a": ["i0", "i1", "i2"]}  # as after a kill
    # A crash of the machine may take `end` back to what it was when i2 was not there yet.
    (path / "end").write_bytes((path.parent / "end").read_bytes())
    assert read(path) == {"a": ["i0", "i1", "i2"]}


def test_a_disk_that_cannot_be_read_is_a_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise OSError(5, os.strerror(5))

    with LMDBStore(path) as store, LMDBStore(path) as other:
        add(other, ("a", "i0"))
        for name in ("pread", "listdir"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, fails)
                for call in (store.fold, store.maintain, lambda: store.history("a")):
                    if name == "pread" or call is store.maintain:
                        sentence(call, "cannot read the log in", "Input/output error", kind=StoreError)
                if name == "pread":
                    sentence(lambda: add(store, ("a", "i1")), "cannot read the log in", kind=StoreError)
        assert store.history("a").items == ["i0"]
        (path / "fold").unlink(missing_ok=True)
        (path / "fold").mkdir()
        sentence(store.fold, "Is a directory", kind=StoreError)


def test_a_file_that_is_made_while_another_thread_looks_for_files(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_FILE_BYTES", 200)
    listed = os.listdir
    with LMDBStore(path) as store:
        add(store, ("a", "i0"))
        writer = threading.Thread(target=lambda: add(store, ("a", "i1" * 60)))

        def slowly(folder: Path) -> list[str]:
            found = listed(folder)
            if threading.current_thread() is threading.main_thread():
                writer.start()
                writer.join(0.3)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", slowly)
            store._log.places()
        writer.join()
        assert len(store._log._files) == 2
        add(store, ("a", "i2"))
        assert store.history("a").items == ["i0", "i1" * 60, "i2"]


def test_names_of_files_are_durable_after_a_kill_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    for module in (log, lmdb_folder):
        monkeypatch.setattr(module, "sync_folder", synced.append)
    path = tmp_path / "x" / "y" / "store"
    made(path)
    assert {path, path.parent, path.parent.parent, tmp_path} <= {*synced}
    synced.clear()
    made(path)  # the one before was killed right before it synced
    assert synced.count(path) == 2  # for store.json, and for files of the log
    assert path.parent in synced


def test_a_store_belongs_to_its_user(path: Path, tmp_path: Path) -> None:
    with LMDBStore(path) as store:
        store.backup(tmp_path / "copy")
    assert [folder.stat().st_mode & 0o777 for folder in (path, tmp_path / "copy")] == [0o700] * 2


def test_a_child_does_not_keep_the_lock_of_its_parent(path: Path) -> None:
    def locks() -> int:
        return sum(os.path.realpath(f"/proc/self/fd/{n}") == str(path / "lock") for n in range(100))

    with LMDBStore(path):
        assert locks() == 1
        child = os.fork()
        if not child:
            os._exit(locks())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
