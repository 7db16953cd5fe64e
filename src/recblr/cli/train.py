"""`recblr train`: a file of interactions becomes a run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from recblr.cli.app import app, example, naming_flag, plain_console, starting, tell, typed_command
from recblr.cli.evaluate import evaluate_and_print


@app.command(
    epilog=example(
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
    with starting():
        from recblr.console import TrainingDisplay
        from recblr.data import read_dataset
        from recblr.nn import RecBLRConfig
        from recblr.training import Run, TrainingConfig
        from recblr.training import train as run_training

    console = plain_console()
    try:
        model = RecBLRConfig(d_model=d_model, num_layers=num_layers, dropout=dropout)
    except ValueError as error:
        raise naming_flag(error) from None
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
    facts = {"command": typed_command(), "data": {"path": str(data.resolve()), "k_core": k_core}}
    run = Run(out)
    try:
        with TrainingDisplay(console) as display:
            done = run_training(dataset, run, config, resume=resume, facts=facts, listener=display)
    except KeyboardInterrupt:
        command = typed_command() if resume else f"{typed_command()} --resume"
        tell(f"stopped; every finished epoch is kept: continue with {command}")
        raise typer.Exit(130) from None
    console.print(f"best validation NDCG@10 {done.best:.4f} in epoch {done.best_epoch}")
    evaluate_and_print(run, console)
