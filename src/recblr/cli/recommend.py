"""`recblr recommend`: the items that the model recommends after a history, or to many users."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from recblr.cli.app import Device, RunFolder, app, example, plain_console, printable
from recblr.cli.bulk import UNKNOWN, BulkOptions, no_effect, recommend_to_many
from recblr.cli.items import Titles, print_items, titles_for
from recblr.cli.signals import signals_end_process
from recblr.errors import InputError

if TYPE_CHECKING:  # the help needs no torch
    from recblr.data import Dataset

_LAST_EVENTS = 10
"""The number of events of a user that are shown with their titles."""


@app.command(
    epilog=example(
        "recblr recommend run --user 42 -k 5 --titles movies.dat",
        "recblr recommend run --history 1270,1721,1022",
        "recblr recommend run --item 1270 --item 1721",
        "recblr recommend run --all-users -k 20 --out recs.parquet",
    )
)
def recommend(
    folder: RunFolder,
    user: Annotated[str | None, typer.Option(metavar="U", help="Id of a user in the run's data.")] = None,
    history: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Item ids of any history, oldest first.")
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="One item id of any history; repeat it, oldest first."),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,T",
            help="When the events of --history or --item happened: dates in UTC, or seconds since 1970.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="T",
            help="When the items are asked for: a date in UTC, or seconds since 1970; by default right after "
            "the last event.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 10,
    titles: Titles = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also recommend items of the history.")
    ] = False,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Recommend to all users of the run's data, into --out.")
    ] = False,
    users: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Recommend to these users, into --out; a text file with one id in each line."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for the lists of many users: .parquet, .csv or .jsonl."),
    ] = None,
    unknown: Annotated[
        str,
        typer.Option(
            metavar="WORD",
            help="If the data do not have a user of --users: stop, skip, or recommend popular items.",
        ),
    ] = UNKNOWN[0],
    device: Device = "cpu",
) -> None:
    """Print the items that the model recommends to a user, or after any history.

    With --user and --titles, the last events of the user are printed, too. With
    --all-users or --users, the lists of many users are written into a file.
    """
    with signals_end_process():
        from recblr.data.read.times import as_moment
        from recblr.run.folder import Run
        from recblr.serving.recommendations import recommend_ids
        from recblr.system.device import device_for

    if [user is None, history is None, not item, not all_users, users is None].count(False) != 1:
        raise InputError(
            "give either --user, for a user of the data, or --history or --item, for any items,"
            " or --all-users or --users, for many users"
        )
    many = all_users or users is not None
    _check_words(many, {"--out": out, "--titles": titles, "--times": times}, unknown, users)
    if many:
        assert out is not None
        moment = None if at is None else as_moment(at, "--at")
        recommend_to_many(Run(folder), BulkOptions(users, out, k, moment, include_seen, unknown, device))
        return
    chosen_device = device_for(device)
    run = Run(folder)
    saved, dataset = run.model_and_dataset()
    names = titles_for(titles, dataset)
    saved.model.to(chosen_device)
    if user is not None:
        index = dataset.user_index(user)
        tokens = [dataset.item_ids[item] for item in dataset.histories.history(index)]
        title = f"for user {user} after {len(tokens)} events" + (", the last of them:" if names else "")
    else:
        tokens = list(item) if item else _separated(history or "", dataset)
        for token in tokens:
            dataset.item_index(token)  # raises for an unknown item, and suggests the most similar id
        title = f"after {', '.join(names.get(t, t) for t in tokens[-3:])}"
    seconds = _times_of(index, dataset) if user is not None else _typed_times(times)
    request_time = None if at is None else as_moment(at, "--at")
    _check_times(saved.model.config.time_use, times, at, seconds, user)
    # Before anything is printed, because it may refuse the times.
    best = recommend_ids(
        saved, tokens, k, times=seconds, request_time=request_time, mask_seen=not include_seen
    )
    console = plain_console()
    console.print(printable(title), style="italic", soft_wrap=True)
    if saved.model.config.time_use == "request":
        console.print(_asked(seconds, request_time), style="italic", soft_wrap=True)
    if user is not None and names:
        events = Table(show_header=False, box=None, pad_edge=False)
        for token in tokens[-_LAST_EVENTS:]:
            events.add_row("  " + printable(token), printable(names.get(token, "")))
        console.print(events)
        console.print()
    print_items(best, names, "score", console)


def _check_words(many: bool, given: dict[str, object], unknown: str, users: Path | None) -> None:
    """Raise InputError for options that do not go with one user, or not with many."""
    if many and given["--out"] is None:
        raise InputError(
            "the lists of many users need a file", "give --out FILE, which ends in .parquet, .csv or .jsonl"
        )
    for flag in ("--titles", "--times") if many else ("--out",):
        if given[flag] is not None:
            raise InputError(
                f"{flag} does not go with {'many users' if many else 'a single history'}", "leave it out"
            )
    if unknown != UNKNOWN[0] and users is None:
        raise InputError("--unknown has an effect only with --users FILE", "leave it out")


def _times_of(user: int, dataset: "Dataset") -> list[float] | None:
    """The seconds of a user's events, if they are known."""
    start, end = dataset.histories.offsets[user : user + 2]
    return None if dataset.seconds is None else dataset.seconds[start:end].tolist()


def _typed_times(times: str | None) -> list[float] | None:
    from recblr.data.read.times import as_moment

    return None if times is None else [as_moment(text, "a time in --times") for text in times.split(",")]


def _check_times(
    time_use: str, times: str | None, at: str | None, seconds: list[float] | None, user: str | None
) -> None:
    """Raise InputError for options of time that have no use here, and for a missing --times."""
    if times is not None and user is not None:
        raise InputError(
            "--times belong to --history or --item: the times of --user are known", "leave it out"
        )
    for flag, given, uses in (("--times", times, ("past", "request")), ("--at", at, ("request",))):
        if given is not None and time_use not in uses:
            raise no_effect(flag, time_use)
    if time_use != "none" and seconds is None:
        raise InputError(
            f"the model was trained with --time {time_use}, so it needs the times of the history",
            "give them with --times, one for each item, or give a --user",
        )


def _asked(seconds: list[float] | None, request_time: float | None) -> str:
    """When the items are asked for, in words."""
    from recblr.serving.recommendations import moment_in_words

    assert seconds
    if request_time is None:
        last = moment_in_words(seconds[-1])
        return f"asked for right after the last event, at {last} (--at gives another time)"
    return f"asked for at {moment_in_words(request_time)}"


def _separated(history: str, dataset: "Dataset") -> list[str]:
    """The ids in the text of --history.  InputError if there is none, or if an id seems to hold a comma."""
    parts = history.split(",")
    tokens = [token.strip() for token in parts if token.strip()]
    if not tokens:
        raise InputError("--history is empty", "give item ids separated by commas, oldest first")
    known = set(dataset.item_ids)
    if known.issuperset(tokens):
        return tokens
    most = max(token.count(",") for token in known)
    for start in range(len(parts)):
        for end in range(start + 2, min(start + most + 1, len(parts)) + 1):
            joined = ",".join(parts[start:end]).strip()
            if joined in known and not known.issuperset(part.strip() for part in parts[start:end]):
                raise InputError(
                    f"--history separates ids at commas, and the item {joined!r} holds one",
                    "give each id with an --item of its own, oldest first",
                )
    return tokens
