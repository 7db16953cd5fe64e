"""The `recblr` command.  Each command is a thin door to the library; its help shows a worked example."""

import io
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recblr.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Sequential recommendation with behavior-dependent linear recurrent units (RecBLR).",
)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `recblr train` wrote.")]


def _example(*lines: str) -> str:
    return "Example:\n\n" + "\n\n".join(f"  [bold]{line}[/bold]" for line in lines)


@app.command(
    epilog=_example(
        "recblr train ratings.csv --item-column movie --out run",
        "recblr train ml-1m.inter.gz --out run --resume",
    )
)
def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Interactions: .inter, .csv, .tsv or SASRec .txt, or .gz of these."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder for the model, the log and the report.")],
    epochs: Annotated[int, typer.Option(help="Passes over every user's history.")] = 36,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, bit for bit.")] = False,
    k_core: Annotated[
        int, typer.Option(help="Drop users and items with fewer interactions, repeatedly.")
    ] = 5,
    file_format: Annotated[
        str,
        typer.Option("--format", help="auto, inter, csv, pairs (user item) or sequences (user item item …)."),
    ] = "auto",
    user_column: Annotated[str | None, typer.Option(help="Column of user ids.")] = None,
    item_column: Annotated[str | None, typer.Option(help="Column of item ids.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    batch_tokens: Annotated[int, typer.Option(help="Events in a batch, filled with whole histories.")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="Adam's at the start; follows a cosine down.")] = 1e-3,
    patience: Annotated[int, typer.Option(help="Stop after so many epochs without a better NDCG@10.")] = 10,
    d_model: Annotated[int, typer.Option(help="Width of the model.")] = 64,
    num_layers: Annotated[int, typer.Option(help="Number of RecBLR blocks.")] = 2,
    dropout: Annotated[float, typer.Option(help="Dropout; more for sparse data (0.5 for Amazon's).")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of weights, batches and dropout.")] = 0,
) -> None:
    """Train on a file of interactions, then evaluate: one pass over whole histories an epoch.

    Users' histories are ordered by time, ties in file order. The last item of
    each is for the test, the one before it for validation.
    """
    with _starting():
        from recblr.console import TrainingDisplay
        from recblr.data import read_dataset
        from recblr.nn import RecBLRConfig
        from recblr.training import Run, TrainingConfig
        from recblr.training import train as run_training

    console = _console()
    try:
        model = RecBLRConfig(d_model=d_model, num_layers=num_layers, dropout=dropout)
    except ValueError as error:
        raise _naming_flag(error) from None
    config = TrainingConfig(
        epochs=epochs,
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
        model=model,
    )
    with console.status(Text(f"reading {data}")):
        dataset = read_dataset(
            data, format=file_format, user=user_column, item=item_column, time=time_column, k_core=k_core
        )
    console.print(
        f"{dataset.name}: {dataset.num_users:,} users, {dataset.num_items:,} items, "
        f"{dataset.num_interactions:,} interactions, {dataset.mean_length:.1f} a user",
    )
    facts = {"command": _command(), "data": {"path": str(data.resolve()), "k_core": k_core}}
    run = Run(out)
    try:
        with TrainingDisplay(console) as display:
            done = run_training(dataset, run, config, resume=resume, facts=facts, listener=display)
    except KeyboardInterrupt:
        command = _command() if resume else f"{_command()} --resume"
        _tell(f"stopped; every finished epoch is kept: continue with {command}")
        raise typer.Exit(130) from None
    console.print(f"best validation NDCG@10 {done.best:.4f} in epoch {done.best_epoch}")
    _evaluate(run, console)


@app.command(epilog=_example("recblr evaluate run"))
def evaluate(folder: RunFolder) -> None:
    """Rank every user's test item among the whole catalogue; write RUN/report.json and print it."""
    with _starting():
        from recblr.training import Run

    _evaluate(Run(folder), _console())


@app.command(
    epilog=_example(
        "recblr recommend run --user 42 -k 5 --titles movies.dat",
        "recblr recommend run --history 1270,1721,1022",
    )
)
def recommend(
    folder: RunFolder,
    user: Annotated[str | None, typer.Option(metavar="U", help="A user of the run's data, by id.")] = None,
    history: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Item ids, oldest first, of anybody.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    titles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Titles: id::title, or tab or comma separated.")
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Items of the history may come again.")
    ] = False,
) -> None:
    """Print the items that the model recommends after a user's whole history, or after any history."""
    with _starting():
        from recblr.data.titles import read_titles
        from recblr.recommend import recommend as best_items
        from recblr.training import Run

    if (user is None) == (history is None):
        raise InputError("give either --user, for a user of the data, or --history, for any items")
    names = read_titles(titles) if titles else {}
    run = Run(folder)
    dataset, model = run.dataset(), run.model()
    if user is not None:
        items = dataset.histories.history(dataset.user_index(user)).tolist()
        title = f"for user {user} after {len(items)} events"
    else:
        tokens = [token.strip() for token in (history or "").split(",") if token.strip()]
        if not tokens:
            raise InputError("--history is empty: give item ids separated by commas, oldest first")
        items = [dataset.item_index(token) for token in tokens]
        title = f"after {', '.join(names.get(t, t) for t in tokens[-3:])}"
    console = _console()
    console.print(title, style="italic", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("item", style="bold")
    if names:
        table.add_column("title")
    table.add_column("score", justify="right")
    for rank, (item, score) in enumerate(best_items(model, items, k, exclude_seen=not include_seen), 1):
        token = dataset.item_ids[item]
        table.add_row(str(rank), token, *([names.get(token, "")] if names else []), f"{score:.3f}")
    console.print(table)


@app.command(epilog=_example("recblr synth demo.inter", "recblr train demo.inter --out run"))
def synth(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it: .inter or .inter.gz.")],
    users: Annotated[int, typer.Option(help="How many users.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the data.")] = 0,
) -> None:
    """Write the built-in dataset, and print what the best possible predictor scores on it.

    Each user follows three series of items at once, in turns that nothing foretells, with noise in
    between: who remembers the last item only knows where one of the three will go on.
    """
    from recblr.data import SyntheticParameters, best_possible, generate, last_item_only, write_inter

    try:
        parameters = SyntheticParameters(users=users, seed=seed)
    except InputError as error:
        raise _naming_flag(error) from None
    dataset = generate(parameters)
    write_inter(dataset, out)
    console = _console()
    console.print(
        f"{out}: {dataset.num_users:,} users, {dataset.num_items:,} items, "
        f"{dataset.num_interactions:,} interactions",
    )
    columns = ("hr@1", "hr@5", "hr@10", "ndcg@10", "mrr@10")
    table = Table(title="what can be reached, on average", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column.upper(), justify="right")
    rows: dict[str, dict[str, float]] = {
        "the best possible predictor": best_possible(dataset, parameters),
        "the best that sees the last item only": last_item_only(dataset, parameters),
    }
    for name, figures in rows.items():
        table.add_row(name, *(f"{figures[column]:.4f}" for column in columns))
    console.print(table)


@app.command(epilog=_example("recblr doctor"))
def doctor() -> None:
    """Say what is installed, which instruction set runs, which operator libraries loaded, and why not."""
    with _starting():
        from recblr.doctor import table

    _console().print(table())


@contextmanager
def _starting() -> Iterator[None]:
    """Let Ctrl-C end the process at once: halfway through `import torch` an exception would abort it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _evaluate(run: Any, console: Console) -> None:
    from recblr.console import ranking_display
    from recblr.evaluation import print_report, write_report
    from recblr.training.evaluate import evaluate_run

    try:
        with ranking_display(console) as progress:
            report = evaluate_run(run, progress)
    except KeyboardInterrupt:
        again = shlex.join(["recblr", "evaluate", str(run.folder)])
        _tell(f"stopped; the model is kept: evaluate it with {again}")
        raise typer.Exit(130) from None
    write_report(report, run.report_file)
    print_report(report, console)
    console.print(f"written to {run.report_file}", soft_wrap=True)


def _console() -> Console:
    """Standard output, where ids, titles and paths are shown as they are and never taken for markup."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a line stays a line, for whoever greps or cuts it
    return console


def _tell(sentence: str) -> None:
    print(f"recblr: {sentence}", file=sys.stderr)


def _naming_flag(error: ValueError) -> InputError:
    """The error of a parameter whose name comes first, for somebody who knows it as an option."""
    name, _, rest = str(error).partition(" ")
    return InputError(f"--{name.replace('_', '-')} {rest}")


def _command() -> str:
    return shlex.join(["recblr", *sys.argv[1:]])


def _plain_warnings() -> None:
    """Our warnings as a sentence, without the line of code that gave them."""

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        return f"recblr: {message}\n" if "recblr" in filename else f"{category.__name__}: {message}\n"

    warnings.formatwarning = show
    # The command imports the operators itself, and then meets the error that this one announces.
    warnings.filterwarnings("ignore", message=r"torch\.ops\.recblr\.\* could not be registered")


def main() -> None:
    """The command's entry point: a mistake that a person can mend is one sentence and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles in letters that the terminal lacks
    _plain_warnings()
    try:
        app(prog_name="recblr")
    except InputError as error:
        _tell(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `recblr … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
