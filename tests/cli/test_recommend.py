"""`recblr recommend`: the best items of the model, for a user of the data or after any history."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli.command import ENVIRONMENT, SMALL, at, items_in, recblr, shell, succeeds

from recblr.errors import InputError
from recblr.serving import recommend
from recblr.training import Run


def history_of(run: Path, user: str) -> list[str]:
    dataset = Run(run).dataset()
    return [dataset.item_ids[item] for item in dataset.histories.history(dataset.user_index(user))]


def test_it_prints_ten_items_best_first(finished: Path) -> None:
    out = succeeds("recommend", finished, "--user", "u7")
    assert out.startswith(f"for user u7 after {len(history_of(finished, 'u7'))} events\n")
    rows = [line.split() for line in out.splitlines()[2:]]
    scores = [float(row[-1]) for row in rows]
    assert len(rows) == 10
    assert scores == sorted(scores, reverse=True)


def test_the_items_have_the_highest_scores_of_the_model(finished: Path) -> None:
    run = Run(finished)
    dataset, model = run.dataset(), run.model()
    history = torch.from_numpy(dataset.histories.history(dataset.user_index("u7")).copy())
    with torch.no_grad():
        scores = model.scores(model(history[None])[0, -1], torch.isin(torch.arange(model.num_items), history))
    best = [dataset.item_ids[item] for item in scores.argsort(descending=True).tolist()]
    seen = set(history_of(finished, "u7"))
    unseen = [item for item in best if item not in seen]
    assert items_in(succeeds("recommend", finished, "--user", "u7")) == unseen[:10]
    assert (
        items_in(succeeds("recommend", finished, "--user", "u7", "--include-seen", "-k", "12")) == best[:12]
    )


def test_seen_items_are_recommended_only_with_the_option(finished: Path) -> None:
    seen = set(history_of(finished, "u3"))
    everything: list[str | Path] = ["recommend", finished, "--user", "u3", "-k", "1000"]
    assert not seen & set(items_in(succeeds(*everything)))
    assert len(items_in(succeeds(*everything))) == 129 - len(seen)
    assert set(items_in(succeeds(*everything, "--include-seen"))) >= seen
    assert len(items_in(succeeds(*everything, "--include-seen"))) == 129


def test_a_typed_history_gives_the_same_items_as_its_user(finished: Path) -> None:
    history = history_of(finished, "u7")
    by_user = succeeds("recommend", finished, "--user", "u7")
    by_history = succeeds("recommend", finished, "--history", ",".join(history))
    assert by_user.splitlines()[1:] == by_history.splitlines()[1:]
    assert by_history.startswith(f"after {', '.join(history[-3:])}\n")


def test_items_given_one_by_one_give_the_same_as_a_typed_history(finished: Path) -> None:
    history = history_of(finished, "u7")
    one_by_one = [word for item in history for word in ("--item", item)]
    assert succeeds("recommend", finished, *one_by_one) == succeeds(
        "recommend", finished, "--history", ",".join(history)
    )
    turned = [word for item in reversed(history) for word in ("--item", item)]
    assert succeeds("recommend", finished, *turned) != succeeds("recommend", finished, *one_by_one)


@pytest.fixture(scope="module")
def with_commas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose items have commas in their ids."""
    items = ["Rock, Pop", "a,b", "c", "b", "x,y,z", "d"]
    folder = tmp_path_factory.mktemp("commas")
    rows = [f'u{user},"{items[(user + at) % 6]}",{at}' for user in range(12) for at in range(6)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    succeeds("train", folder / "log.csv", "--out", folder / "run", "--epochs", "1", *SMALL)
    return folder / "run"


def test_an_item_with_a_comma_is_given_by_its_own_option(with_commas: Path) -> None:
    out = succeeds("recommend", with_commas, "--item", "a,b", "--item", "Rock, Pop", "--item", "c")
    assert out.startswith("after a,b, Rock, Pop, c\n")
    assert len(out.splitlines()) == 2 + 3  # of six items, three are in the history


@pytest.mark.parametrize(
    ("history", "item"),
    [
        ("a,b", "a,b"),
        ("c,Rock, Pop", "Rock, Pop"),
        (" Rock, Pop ,c", "Rock, Pop"),
        ("c,d,x,y,z", "x,y,z"),
        ("b,a,b", "a,b"),
    ],
)
def test_a_history_with_a_comma_in_an_id_points_to_the_option(
    with_commas: Path, history: str, item: str
) -> None:
    seen = recblr("recommend", with_commas, "--history", history)
    assert (seen.code, seen.out) == (2, "")
    assert f"the item {item!r} holds one; give each id with an --item of its own" in seen.err


def test_a_history_of_known_and_of_unknown_items_means_what_it_says(with_commas: Path) -> None:
    assert succeeds("recommend", with_commas, "--history", "c,b,d").startswith("after c, b, d\n")
    assert "no item 'q'" in recblr("recommend", with_commas, "--history", "c,q,d").err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--user", "u1", "--item", "c"],
        ["--history", "c", "--item", "c"],
        ["--user", "u1", "--history", "c", "--item", "c"],
        ["--user", "u1", "--history", "c"],
    ],
)
def test_a_user_a_history_and_items_exclude_each_other(with_commas: Path, words: list[str]) -> None:
    seen = recblr("recommend", with_commas, *words)
    assert (seen.code, seen.out) == (2, "")
    assert "give either --user, for a user of the data, or --history or --item, for any items" in seen.err


def test_spaces_around_ids_are_ignored(finished: Path) -> None:
    first, second = history_of(finished, "u7")[:2]
    tidy = succeeds("recommend", finished, "--history", f"{first},{second}")
    assert succeeds("recommend", finished, "--history", f" {first} , {second},") == tidy


@pytest.mark.parametrize("k", [1, 3])
def test_k_is_the_number_of_items(finished: Path, k: int) -> None:
    assert len(items_in(succeeds("recommend", finished, "--user", "u1", "-k", str(k)))) == k


def padding(run: Path, *without: str, mark: str = ",") -> str:
    """Lines with titles for the other items of the run, so that no title is missed."""
    return "".join(f"{item}{mark}\n" for item in Run(run).dataset().item_ids if item not in without)


TITLES = {
    "movies.dat": "{0}::Léon: The [b]Pro[/b] :heart: [/x] (1994)::Crime|Drama\n{1}::Heat (1995)::Action\n",
    "movies.tsv": "id\ttitle\n{0}\tLéon: The [b]Pro[/b] :heart: [/x] (1994)\n{1}\tHeat (1995)\textra\n",
    "movies.csv": 'id,title\n{0},"Léon: The [b]Pro[/b] :heart: [/x] (1994)"\n{1},Heat (1995)\n',
}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-8-sig"])
@pytest.mark.parametrize("name", TITLES)
def test_titles_stand_beside_the_ids(finished: Path, tmp_path: Path, name: str, encoding: str) -> None:
    best = items_in(succeeds("recommend", finished, "--user", "u7", "-k", "3"))
    mark = {".dat": "::", ".tsv": "\t", ".csv": ","}[Path(name).suffix]
    text = TITLES[name].format(*best) + padding(finished, *best[:2], mark=mark)
    (tmp_path / name).write_bytes(text.encode(encoding))
    out = succeeds("recommend", finished, "--user", "u7", "-k", "3", "--titles", tmp_path / name)
    header, *rows = out.splitlines()[-4:]
    assert header.split() == ["item", "title", "score"]
    assert f"{best[0]}  Léon: The [b]Pro[/b] :heart: [/x] (1994) " in rows[0]
    assert f"{best[1]}  Heat (1995) " in rows[1]
    assert rows[2].split()[:2] == ["3", best[2]]
    assert len(rows[2].split()) == 3  # an item without a title is shown without one


def test_with_titles_the_last_events_of_the_user_are_shown_oldest_first(
    finished: Path, tmp_path: Path
) -> None:
    history = history_of(finished, "u7")
    text = f"{history[-1]},Heat [1995]\x1b\n{history[0]},The first\n"
    (tmp_path / "t.csv").write_text(text + padding(finished, history[-1], history[0]))
    out = succeeds("recommend", finished, "--user", "u7", "-k", "1", "--titles", tmp_path / "t.csv")
    heading, *events = [line.split(maxsplit=1) for line in out.partition("\n\n")[0].splitlines()]
    assert " ".join(heading) == f"for user u7 after {len(history)} events, the last of them:"
    assert len(history) > 10
    assert [words[0] for words in events] == history[-10:]
    assert events[-1][1].strip() == r"Heat [1995]\x1b"
    assert all(len(words) == 1 for words in events[:-1])


def test_titles_name_a_typed_history_too(finished: Path, tmp_path: Path) -> None:
    item = history_of(finished, "u7")[0]
    (tmp_path / "t.csv").write_text(f"{item},Heat [1995]\n" + padding(finished, item))
    out = succeeds("recommend", finished, "--history", item, "--titles", tmp_path / "t.csv")
    assert out.startswith("after Heat [1995]\n")


@pytest.mark.parametrize(
    ("titles", "says"),
    [
        ("item,title\n1.0,Heat\n2.0,Ran\n", "no item has a title in t.csv: its ids are like '2.0', and"),
        (
            "item,title\n",
            "no item has a title in t.csv: its ids are like 'item', and those of the run like 's",
        ),
        ("{0},Heat\n{1},Ran\n", "only 2 of the 129 items have a title in t.csv"),
        ("\x1b::Heat", r"its ids are like '\x1b', and those"),
    ],
)
def test_titles_that_match_few_items_are_named(
    finished: Path, tmp_path: Path, titles: str, says: str
) -> None:
    (tmp_path / "t.csv").write_text(titles.format(*Run(finished).dataset().item_ids))
    with at(tmp_path):
        seen = recblr("recommend", finished, "--user", "u7", "--titles", "t.csv")
    assert seen.code == 0
    assert seen.err.startswith("recblr: ")
    assert says in seen.err
    assert seen.err.count("\n") == 1
    assert len(seen.out.splitlines()) > 10


def test_titles_of_half_of_the_items_are_enough(finished: Path, tmp_path: Path) -> None:
    ids = Run(finished).dataset().item_ids
    for count, says in ((65, ""), (64, "recblr: only 64 of the 129 items")):
        (tmp_path / "t.csv").write_text("".join(f"{item},a title\n" for item in ids[:count]))
        seen = recblr("recommend", finished, "--user", "u7", "--titles", tmp_path / "t.csv")
        assert seen.err.startswith(says)
        assert bool(seen.err) == bool(says)


def test_a_long_title_is_not_wrapped_without_a_terminal(finished: Path, tmp_path: Path) -> None:
    best = items_in(succeeds("recommend", finished, "--user", "u7", "-k", "1"))[0]
    title = "very " * 60 + "long"
    (tmp_path / "t.csv").write_text(f"{best},{title}\n" + padding(finished, best))
    out = succeeds("recommend", finished, "--user", "u7", "-k", "1", "--titles", tmp_path / "t.csv")
    assert title in out.splitlines()[-1]


def test_letters_that_the_terminal_cannot_show_are_escaped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = items_in(succeeds("recommend", finished, "--user", "u7", "-k", "1"))[0]
    text = f"{best},Amélie\n" + padding(finished, best)
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    monkeypatch.setitem(ENVIRONMENT, "PYTHONIOENCODING", "ascii")
    seen = shell("recommend", finished, "--user", "u7", "-k", "1", "--titles", tmp_path / "t.csv")
    assert (seen.code, seen.err) == (0, "")
    assert r"Am\xe9lie" in seen.out


def test_the_same_command_prints_the_same_and_changes_no_file(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    answers = {succeeds("recommend", finished, "--user", "u5") for _ in range(2)}
    assert len(answers) == 1
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_an_unknown_id_gives_a_suggestion(finished: Path) -> None:
    seen = recblr("recommend", finished, "--user", "U7")
    assert seen.code == 2
    assert "did you mean 'u7'" in seen.err


@pytest.mark.parametrize(
    ("history", "k", "says"),
    [([], 3, "history is empty"), ([1, 129], 3, r"history\[1\] is item 129"), ([1], 0, "k, the number")],
)
def test_the_library_refuses_wrong_arguments(finished: Path, history: list[int], k: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        recommend(Run(finished).model(), history, k)
