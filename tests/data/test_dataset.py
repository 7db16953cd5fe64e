"""A dataset finds its ids, and is the same after saving and loading; damaged files are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from data.packing import dataset as make
from hypothesis import given, settings
from hypothesis import strategies as st

from recblr.data import Dataset
from recblr.data.packed import Numbers
from recblr.errors import InputError


def test_a_dataset_counts_users_items_and_interactions() -> None:
    dataset = make([[0, 1, 2], [1]])
    assert (dataset.num_users, dataset.num_items, dataset.num_interactions) == (2, 3, 4)
    assert dataset.mean_length == 2.0


def test_the_mean_length_without_users_is_zero() -> None:
    assert make([]).mean_length == 0.0


def test_an_id_has_an_index() -> None:
    dataset = make([[0], [1]])
    assert dataset.user_index("user1") == 1
    assert dataset.item_index("cherry") == 2


def test_the_error_for_an_unknown_item_names_similar_items() -> None:
    with pytest.raises(InputError, match=r"shop has no item 'Bananna' .* did you mean 'banana'\?"):
        make([[0]]).item_index("Bananna")


def test_the_error_for_an_unknown_user_without_similar_ids_names_examples() -> None:
    with pytest.raises(InputError, match=r"shop has no user '9' .* such as 'user0' or 'user1'"):
        make([[0], [1]]).user_index("9")


def test_the_fingerprint_does_not_depend_on_the_name() -> None:
    assert make([[0, 1]]).fingerprint == make([[0, 1]], name="market").fingerprint


@pytest.mark.parametrize(
    "other",
    [
        make([[1, 0]]),
        make([[0, 1, 2]]),
        make([[0, 1]], users=["someone"]),
        make([[0, 1]], items=["applebanana", "cherry", ""]),
        make([[0], [1]]),
    ],
)
def test_other_content_has_another_fingerprint(other: Dataset) -> None:
    assert other.fingerprint != make([[0, 1]]).fingerprint


def test_the_fingerprint_depends_on_the_order_of_times_only_if_their_unit_is_unknown() -> None:
    counts = make([[0, 1], [2]], times=[10, 30, 20])
    assert counts.fingerprint == make([[0, 1], [2]], times=[0.5, 0.75, 0.6]).fingerprint
    for other in ([10, 20, 30], [10, 30, 30], [10, 30, 10]):
        assert make([[0, 1], [2]], times=other).fingerprint != counts.fingerprint


def test_the_fingerprint_of_a_dataset_without_a_unit_is_that_of_earlier_versions() -> None:
    earlier = "1b91dc6096d18618a153fe367d185f45cd33dda8ff2e9c02c5dc30f4d4eee39e"
    assert make([[0, 1], [2]], times=[10, 30, 20]).fingerprint == earlier
    earlier = "0f8ee33a050d8687122ef0cebf4fabf92e490ab473ac96297396d595126a4355"
    assert make([[0, 1], [2]]).fingerprint == earlier


def test_the_fingerprint_without_times_is_that_of_one_history_after_another() -> None:
    assert make([[0, 1], [2]]).fingerprint == make([[0, 1], [2]], times=[1, 2, 3]).fingerprint
    assert make([[0, 1], [2]]).fingerprint != make([[0, 1], [2]], times=[1, 1, 1]).fingerprint


def test_the_repr_has_the_size_and_not_the_content() -> None:
    assert repr(make([[0, 1, 2], [1]])) == "Dataset('shop': 2 users, 3 items, 4 interactions)"
    assert repr(make([[0]], times=[1])).endswith("1 interactions, with times)")


def test_the_description_has_counts_lengths_and_times() -> None:
    assert make([[0, 1, 2], [1]], times=[5, 6, 9, 2]).describe() == (
        "shop\n"
        "users         2\n"
        "items         3\n"
        "interactions  4\n"
        "a user        1 to 3 events, median 2, mean 2.0\n"
        "density       66.667%\n"
        "times         2 to 9"
    )
    assert make([], items=[]).describe() == "shop\nusers         0\nitems         0\ninteractions  0"


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=5),
    st.text(max_size=5),
    st.sampled_from([None, np.int64, np.float64]),
    st.sampled_from([None, "s", "ns"]),
)
def test_a_saved_dataset_is_loaded_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    histories: list[list[int]],
    name: str,
    clock: type | None,
    unit: str | None,
) -> None:
    directory = tmp_path_factory.mktemp("saved") / "deeper"
    dataset = make(histories, name=name)
    if clock is not None:
        times = np.arange(dataset.num_interactions).astype(clock)
        dataset = replace(dataset, times=times, time_unit=unit)
    dataset.save(directory)
    loaded = Dataset.load(directory)
    assert (loaded.name, loaded.user_ids, loaded.item_ids) == (name, dataset.user_ids, dataset.item_ids)
    assert loaded.time_unit == dataset.time_unit
    assert loaded.histories.items.tolist() == dataset.histories.items.tolist()
    assert loaded.histories.offsets.tolist() == dataset.histories.offsets.tolist()
    if dataset.times is None:
        assert loaded.times is None
    else:
        assert loaded.times is not None
        assert (loaded.times.dtype, loaded.times.tolist()) == (dataset.times.dtype, dataset.times.tolist())


def test_saving_again_replaces_the_files_and_leaves_no_others(tmp_path: Path) -> None:
    make([[0, 1]]).save(tmp_path)
    make([[2]]).save(tmp_path)
    assert Dataset.load(tmp_path).num_interactions == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "catalogue.parquet",
        "dataset.json",
        "histories.parquet",
    ]


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.json is missing"):
        Dataset.load(tmp_path)


@pytest.mark.parametrize("name", ["histories.parquet", "catalogue.parquet", "dataset.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    make([[0, 1]]).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=name):
        Dataset.load(tmp_path)


@pytest.mark.parametrize("name", ["histories.parquet", "catalogue.parquet", "dataset.json"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_truncated_file_is_reported_as_damaged(tmp_path: Path, name: str, keep: float) -> None:
    make([[0, 1]]).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match="is damaged; read the data file again"):
        Dataset.load(tmp_path)


@pytest.mark.parametrize("name", ["histories.parquet", "catalogue.parquet"])
def test_a_file_of_another_dataset_is_reported_as_damage(tmp_path: Path, name: str) -> None:
    make([[0, 1]]).save(tmp_path / "one")
    make([[1, 0]], items=["x", "y", "z"]).save(tmp_path / "other")
    (tmp_path / "other" / name).replace(tmp_path / "one" / name)
    with pytest.raises(InputError, match="is damaged"):
        Dataset.load(tmp_path / "one")


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame({"foreign": ["a"]}),
        pl.DataFrame({"user": ["user0"], "items": [[99]]}),
        pl.DataFrame(
            {"user": [None], "items": [[0, 1]]}, schema={"user": pl.String, "items": pl.List(pl.Int64)}
        ),
        pl.DataFrame({"user": ["user0"], "items": ["0 1"]}),
        pl.DataFrame({"user": ["user0"], "items": [[0, 1]], "times": [[1, 0]]}),
        pl.DataFrame({"user": ["user0"], "items": [[0, 1]], "times": [[1]]}),
        pl.DataFrame({"user": ["user0"], "items": [[0, 1]], "times": ["now"]}),
        pl.DataFrame({"user": ["user0"], "items": [[0, 1]], "times": [["a", "b"]]}),
        pl.DataFrame({"user": ["user0"], "items": [[0, 1]], "times": [[1.0, float("nan")]]}),
    ],
)
def test_a_table_of_another_form_is_reported_as_damage(tmp_path: Path, table: pl.DataFrame) -> None:
    make([[0, 1]]).save(tmp_path)
    change_version(tmp_path, 2)  # which has no digests
    table.write_parquet(tmp_path / "histories.parquet")
    with pytest.raises(InputError, match="is damaged"):
        Dataset.load(tmp_path)


def change_version(folder: Path, version: int, **changes: str) -> None:
    about = json.loads((folder / "dataset.json").read_text())
    if version < 3:
        del about["sha256"]
    (folder / "dataset.json").write_text(json.dumps(about | {"version": version} | changes))


@pytest.mark.parametrize("version", [1, 2])
def test_older_versions_without_digests_are_read(tmp_path: Path, version: int) -> None:
    make([[0, 1]]).save(tmp_path)
    change_version(tmp_path, version)
    assert Dataset.load(tmp_path).fingerprint == make([[0, 1]]).fingerprint


@pytest.mark.parametrize("version", [2, 3])
def test_times_of_older_versions_are_read_without_a_unit_so_that_the_fingerprint_stays(
    tmp_path: Path, version: int
) -> None:
    stored = make([[0, 1], [2]], times=[10, 30, 20])
    stored.save(tmp_path)
    change_version(tmp_path, version, time_unit="s")
    loaded = Dataset.load(tmp_path)
    assert (loaded.time_unit, loaded.fingerprint) == (None, stored.fingerprint)
    assert loaded.times is not None
    assert loaded.times.tolist() == [10, 30, 20]


@pytest.mark.parametrize("unit", ["d", "", 7, ["s"]])
def test_a_unit_that_does_not_exist_is_reported_as_damage(tmp_path: Path, unit: Any) -> None:
    make([[0, 1]], times=[1, 2]).save(tmp_path)
    change_version(tmp_path, 4, time_unit=unit)
    with pytest.raises(InputError, match="is damaged"):
        Dataset.load(tmp_path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    make([[0, 1]]).save(tmp_path)
    change_version(tmp_path, 5)
    with pytest.raises(InputError, match="version 5"):
        Dataset.load(tmp_path)


@pytest.mark.parametrize("digests", [None, "x", {}, {"histories.parquet": 7}])
def test_digests_of_another_form_are_reported_as_damage(tmp_path: Path, digests: object) -> None:
    make([[0, 1]]).save(tmp_path)
    about = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(about | {"sha256": digests}))
    with pytest.raises(InputError, match="is damaged"):
        Dataset.load(tmp_path)


def test_saving_into_the_path_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        make([[0]]).save(tmp_path / "taken")


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 histories cannot belong to 2 users"):
        make([[0]], users=["a", "b"])
    with pytest.raises(ValueError, match="outside the catalogue"):
        make([[3]])
    with pytest.raises(ValueError, match="item ids must differ"):
        make([[0]], items=["a", "a"])
    with pytest.raises(ValueError, match="unit of times must be one of s, ms, us, ns, and is 'd'"):
        replace(make([[0]], times=[1]), time_unit="d")


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (np.array([1, 2]), r"shape \(3,\), one for each event, and are int64 of shape \(2,\)"),
        (np.array([1, 2, 3], dtype=np.int32), "are int32"),
        (np.array([1.0, np.nan, 2.0]), "must be finite"),
        (np.array([2, 1, 3]), "must not decrease within a history"),
    ],
)
def test_times_that_do_not_fit_are_refused(times: Numbers, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(make([[0, 1], [2]]), times=times)


def test_times_may_decrease_from_one_history_to_the_next() -> None:
    assert make([[0, 1], [], [2], [0]], times=[5, 6, 1, 0]).times is not None


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("catalogue.parquet", None, "{} has no complete dataset (catalogue.parquet is missing)"),
        ("catalogue.parquet", "x", "the dataset saved in {} is damaged"),
        (
            "dataset.json",
            '{"version": 9, "name": "a", "fingerprint": "b"}',
            "{}/dataset.json has version 9 and this program reads versions up to 4",
        ),
    ],
)
def test_the_problem_and_the_remedy_stay_apart_if_the_path_has_punctuation(
    tmp_path: Path, file: str, content: str | None, problem: str
) -> None:
    folder = tmp_path / "mine; not yours: old"
    make([[0, 1]]).save(folder)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(InputError) as raised:
        Dataset.load(folder)
    assert (raised.value.problem, raised.value.remedy) == (problem.format(folder), "read the data file again")
