"""`recblr recommend`: the best items of the model, for a user of the data or after any history."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli.command import ENVIRONMENT, items_in, recblr, shell, succeeds

from recblr.errors import InputError
from recblr.serving.recommend import recommend
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


def test_spaces_around_ids_are_ignored(finished: Path) -> None:
    first, second = history_of(finished, "u7")[:2]
    tidy = succeeds("recommend", finished, "--history", f"{first},{second}")
    assert succeeds("recommend", finished, "--history", f" {first} , {second},") == tidy


@pytest.mark.parametrize("k", [1, 3])
def test_k_is_the_number_of_items(finished: Path, k: int) -> None:
    assert len(items_in(succeeds("recommend", finished, "--user", "u1", "-k", str(k)))) == k


TITLES = {
    "movies.dat": "{0}::Léon: The [b]Pro[/b] :heart: [/x] (1994)::Crime|Drama\n{1}::Heat (1995)::Action\n",
    "movies.tsv": "id\ttitle\n{0}\tLéon: The [b]Pro[/b] :heart: [/x] (1994)\n{1}\tHeat (1995)\textra\n",
    "movies.csv": 'id,title\n{0},"Léon: The [b]Pro[/b] :heart: [/x] (1994)"\n{1},Heat (1995)\n',
}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-8-sig"])
@pytest.mark.parametrize("name", TITLES)
def test_titles_stand_beside_the_ids(finished: Path, tmp_path: Path, name: str, encoding: str) -> None:
    best = items_in(succeeds("recommend", finished, "--user", "u7", "-k", "3"))
    (tmp_path / name).write_bytes(TITLES[name].format(*best).encode(encoding))
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
    (tmp_path / "t.csv").write_text(f"{history[-1]},Heat [1995]\x1b\n{history[0]},The first\n")
    out = succeeds("recommend", finished, "--user", "u7", "-k", "1", "--titles", tmp_path / "t.csv")
    heading, *events = [line.split(maxsplit=1) for line in out.partition("\n\n")[0].splitlines()]
    assert " ".join(heading) == f"for user u7 after {len(history)} events, the last of them:"
    assert len(history) > 10
    assert [words[0] for words in events] == history[-10:]
    assert events[-1][1].strip() == r"Heat [1995]\x1b"
    assert all(len(words) == 1 for words in events[:-1])


def test_titles_name_a_typed_history_too(finished: Path, tmp_path: Path) -> None:
    item = history_of(finished, "u7")[0]
    (tmp_path / "t.csv").write_text(f"{item},Heat [1995]\n")
    out = succeeds("recommend", finished, "--history", item, "--titles", tmp_path / "t.csv")
    assert out.startswith("after Heat [1995]\n")


def test_a_long_title_is_not_wrapped_without_a_terminal(finished: Path, tmp_path: Path) -> None:
    best = items_in(succeeds("recommend", finished, "--user", "u7", "-k", "1"))[0]
    title = "very " * 60 + "long"
    (tmp_path / "t.csv").write_text(f"{best},{title}\n")
    out = succeeds("recommend", finished, "--user", "u7", "-k", "1", "--titles", tmp_path / "t.csv")
    assert title in out.splitlines()[-1]


def test_letters_that_the_terminal_cannot_show_are_escaped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = items_in(succeeds("recommend", finished, "--user", "u7", "-k", "1"))[0]
    (tmp_path / "t.csv").write_text(f"{best},Amélie\n", encoding="utf-8")
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
