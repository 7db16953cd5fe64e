"""`recblr recommend`: the model's best items, for a user of the data or after any history."""

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


def test_its_items_are_those_of_the_models_highest_scores(finished: Path) -> None:
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


def test_seen_items_come_only_when_asked_for(finished: Path) -> None:
    seen = set(history_of(finished, "u3"))
    everything: list[str | Path] = ["recommend", finished, "--user", "u3", "-k", "1000"]
    assert not seen & set(items_in(succeeds(*everything)))
    assert len(items_in(succeeds(*everything))) == 129 - len(seen)
    assert set(items_in(succeeds(*everything, "--include-seen"))) >= seen
    assert len(items_in(succeeds(*everything, "--include-seen"))) == 129


def test_a_users_own_history_given_in_words_gives_the_same(finished: Path) -> None:
    history = history_of(finished, "u7")
    by_user = succeeds("recommend", finished, "--user", "u7")
    by_history = succeeds("recommend", finished, "--history", ",".join(history))
    assert by_user.splitlines()[1:] == by_history.splitlines()[1:]
    assert by_history.startswith(f"after {', '.join(history[-3:])}\n")


def test_spaces_around_ids_do_no_harm(finished: Path) -> None:
    first, second = history_of(finished, "u7")[:2]
    tidy = succeeds("recommend", finished, "--history", f"{first},{second}")
    assert succeeds("recommend", finished, "--history", f" {first} , {second},") == tidy


@pytest.mark.parametrize("k", [1, 3])
def test_k_says_how_many(finished: Path, k: int) -> None:
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


def test_a_long_title_stays_on_its_line_off_a_terminal(finished: Path, tmp_path: Path) -> None:
    best = items_in(succeeds("recommend", finished, "--user", "u7", "-k", "1"))[0]
    title = "very " * 60 + "long"
    (tmp_path / "t.csv").write_text(f"{best},{title}\n")
    out = succeeds("recommend", finished, "--user", "u7", "-k", "1", "--titles", tmp_path / "t.csv")
    assert title in out.splitlines()[-1]


def test_a_terminal_without_the_letters_of_a_title_is_no_reason_to_fail(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = items_in(succeeds("recommend", finished, "--user", "u7", "-k", "1"))[0]
    (tmp_path / "t.csv").write_text(f"{best},Amélie\n", encoding="utf-8")
    monkeypatch.setitem(ENVIRONMENT, "PYTHONIOENCODING", "ascii")
    seen = shell("recommend", finished, "--user", "u7", "-k", "1", "--titles", tmp_path / "t.csv")
    assert (seen.code, seen.err) == (0, "")
    assert r"Am\xe9lie" in seen.out


def test_the_same_question_gets_the_same_answer_and_changes_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    answers = {succeeds("recommend", finished, "--user", "u5") for _ in range(2)}
    assert len(answers) == 1
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_unknown_ids_come_with_a_hint(finished: Path) -> None:
    seen = recblr("recommend", finished, "--user", "U7")
    assert seen.code == 2
    assert "did you mean 'u7'" in seen.err


@pytest.mark.parametrize(
    ("history", "k", "says"),
    [([], 3, "history is empty"), ([1, 129], 3, r"history\[1\] is item 129"), ([1], 0, "k is the number")],
)
def test_the_library_refuses_what_it_cannot_answer(
    finished: Path, history: list[int], k: int, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        recommend(Run(finished).model(), history, k)
