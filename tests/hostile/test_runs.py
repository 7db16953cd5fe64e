"""Runs with missing files, exchanged files, and impossible contents."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hostile.rows import Bad, check
from run import sealed

MODEL, CHECKPOINT = "model.safetensors", "checkpoints/epoch-0002"
EVALUATE, RECOMMEND, RESUME = "evaluate run", "recommend run --user u1", "train --out run --resume"
DAMAGED = "model.safetensors is damaged or truncated"
NO_MODEL = "model.safetensors is no model file"
COPY = "restore"


def on(words: str, change: Callable[[Path], object], *says: str) -> Bad:
    return Bad(words, says, lambda folder: change(folder / "run"), run=True)


def in_place_of(name: str, put: Callable[[Path], object]) -> Callable[[Path], object]:
    """Replace a file or folder of the run."""

    def change(run: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        put(path)

    return change


def folder(name: str) -> Callable[[Path], object]:
    return in_place_of(name, Path.mkdir)


def pipe(name: str) -> Callable[[Path], object]:
    return in_place_of(name, os.mkfifo)


def link(name: str, target: str = "none") -> Callable[[Path], object]:
    return in_place_of(name, lambda path: path.symlink_to(target))


def holding(name: str, content: str | bytes) -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return in_place_of(name, lambda path: path.write_bytes(raw))


def json_values(name: str, **values: Any) -> Callable[[Path], object]:
    """Change values in a JSON file."""

    def change(run: Path) -> None:
        before = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(before | values))

    return change


def last_log_line(**values: Any) -> Callable[[Path], object]:
    """Change values in the last line of the log."""

    def change(run: Path) -> None:
        *lines, last = (run / "log.jsonl").read_text().splitlines()
        lines.append(json.dumps(json.loads(last) | values))
        (run / "log.jsonl").write_text("\n".join(lines) + "\n")

    return change


def tensors(
    change: Callable[[dict[str, torch.Tensor]], object], name: str = MODEL
) -> Callable[[Path], object]:
    """Change the tensors of a safetensors file and keep its header; the digest is computed again."""
    return lambda run: sealed.rewrite(run / name, lambda found, _: change(found))


def every(change: Callable[[torch.Tensor], torch.Tensor], name: str = MODEL) -> Callable[[Path], object]:
    """Change every weight of a safetensors file."""
    return tensors(lambda found: found.update({key: change(found[key]) for key in weights(found)}), name)


def weights(found: dict[str, torch.Tensor]) -> list[str]:
    return [key for key in found if key != "item_ids"]


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the safetensors header of the model file and keep the bytes after it."""

    def rewrite(run: Path) -> None:
        raw = (run / MODEL).read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        entries = json.loads(raw[8 : 8 + length])
        change(entries)
        new = json.dumps(entries).encode()
        (run / MODEL).write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + length :])

    return rewrite


def first_tensor(**values: Any) -> Callable[[Path], object]:
    """Change values in the header entry of the first tensor."""

    def change(entries: dict[str, Any]) -> None:
        entries[next(name for name in entries if name != "__metadata__")].update(values)

    return header(change)


def header_values(**values: Any) -> Callable[[Path], object]:
    """Change values in recblr's own entry of the header; the digest is computed again."""
    return lambda run: sealed.rewrite(run / MODEL, lambda _, found: found.update(values))


def digest(value: object) -> Callable[[Path], object]:
    """Change the digest in the header."""
    return lambda run: sealed.rewrite(run / MODEL, lambda _, found: found.update(digest=value), sealed=False)


def reversed_ids(item_ids: torch.Tensor) -> torch.Tensor:
    ids = json.loads(bytes(item_ids.tolist()))
    return torch.tensor(list(json.dumps(ids[::-1]).encode()), dtype=torch.uint8)


def model_options(**values: Any) -> Callable[[Path], object]:
    """Change hyper-parameters in the header; the digest is computed again."""
    return lambda run: sealed.rewrite(run / MODEL, lambda _, found: found["config"].update(values))


def table(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], object]:
    def rewrite(run: Path) -> None:
        path = run / "dataset" / name
        change(pl.read_parquet(path)).write_parquet(path)

    return rewrite


DEEP = "[" * 100_000
PLACES: dict[str, Bad] = {
    **{
        f"{kind} in place of {name}, {words.split()[0]}": on(words, put(name), *says)
        for words in (EVALUATE, RECOMMEND, RESUME)
        for kind, put in (("a folder", folder), ("a pipe", pipe), ("a link to nowhere", link))
        for name, says in (
            ("run.json", ("run",)),
            ("config.toml", ("config.toml", COPY)),
            ("dataset", ("dataset",)),
            ("dataset/histories.parquet", ("run/dataset", COPY)),
            ("dataset/dataset.json", ("run/dataset", COPY)),
        )
        if not (words == RESUME and name == "run.json" and kind == "a link to nowhere")
    },
    **{
        f"{kind} in place of the model": on(EVALUATE, put(MODEL), "no file run/model.safetensors", COPY)
        for kind, put in (("a folder", folder), ("a pipe", pipe), ("a link to nowhere", link))
    },
    **{
        f"{kind} in place of the log": on(EVALUATE, put("log.jsonl"), "run/log.jsonl", COPY)
        for kind, put in (("a folder", folder), ("a pipe", pipe), ("a link to itself", lambda n: link(n, n)))
    },
    "a folder in place of the report": on(EVALUATE, folder("report.json"), "cannot write run/report.json"),
    "a pipe in place of the progress": on(
        RESUME, pipe(f"{CHECKPOINT}/progress.json"), "progress.json is missing or damaged", "delete"
    ),
    "a pipe in place of the optimizer": on(
        RESUME, pipe(f"{CHECKPOINT}/optimizer.safetensors"), "there is no file", "optimizer.safetensors"
    ),
    "a file in place of the checkpoint": on(
        RESUME, holding(CHECKPOINT, "x"), "progress.json is missing or damaged"
    ),
    "a checkpoint of epoch 10^30": on(
        RESUME, lambda run: (run / f"checkpoints/epoch-{10**30}").mkdir(), "is missing or damaged", "delete"
    ),
}

CONTENTS: dict[str, Bad] = {
    "endless brackets in the facts": on(EVALUATE, holding("run.json", DEEP), "run/run.json is damaged"),
    "facts that are a list": on(EVALUATE, holding("run.json", "[]"), "not written by this version"),
    "facts of a future version": on(
        EVALUATE, json_values("run.json", format=99), "not written by this version"
    ),
    "facts of a boolean version": on(
        EVALUATE, json_values("run.json", format=True), "not written by this version"
    ),
    "a fingerprint that is a number": on(
        EVALUATE, json_values("run.json", fingerprint=7), "run/run.json is damaged"
    ),
    "a fingerprint of other data": on(
        RECOMMEND, json_values("run.json", fingerprint="0" * 64), "other data", COPY
    ),
    "a command that is a list": on(
        EVALUATE, json_values("run.json", command=[1, 2]), "run/run.json is damaged"
    ),
    "a log of numbers": on(EVALUATE, holding("log.jsonl", "1\n2\n"), "log.jsonl, line 1 is damaged"),
    "endless brackets in the log": on(EVALUATE, holding("log.jsonl", DEEP), "log.jsonl, line 1 is damaged"),
    "a log of empty records": on(EVALUATE, holding("log.jsonl", "{}\n"), "log.jsonl, line 1 is damaged"),
    "a loss in words": on(EVALUATE, last_log_line(loss="low"), "log.jsonl, line 2 is damaged"),
    "seconds in words": on(EVALUATE, last_log_line(train_seconds="many"), "log.jsonl, line 2 is damaged"),
    "seconds of None": on(EVALUATE, last_log_line(valid_seconds=None), "log.jsonl, line 2 is damaged"),
    "metrics that are a list": on(EVALUATE, last_log_line(valid=[1, 2]), "log.jsonl, line 2 is damaged"),
    "metrics in words": on(
        EVALUATE, last_log_line(valid={"masked": {"ndcg@10": "good"}}), "line 2 is damaged"
    ),
    "an epoch that is a fraction": on(EVALUATE, last_log_line(epoch=1.5), "log.jsonl, line 2 is damaged"),
    "a field too many": on(EVALUATE, last_log_line(zzz=1), "log.jsonl, line 2 is damaged"),
    "endless brackets in the progress": on(
        RESUME, holding(f"{CHECKPOINT}/progress.json", DEEP), "progress.json is missing or damaged"
    ),
    "progress of epoch 10^30": on(
        RESUME,
        json_values(f"{CHECKPOINT}/progress.json", epoch=10**30),
        "progress.json is missing or damaged",
    ),
    "progress in words": on(
        RESUME, json_values(f"{CHECKPOINT}/progress.json", best="good"), "progress.json is missing or damaged"
    ),
    "progress of None": on(
        RESUME, json_values(f"{CHECKPOINT}/progress.json", best=None), "progress.json is missing or damaged"
    ),
    "a best that is nan": on(
        RESUME, json_values(f"{CHECKPOINT}/progress.json", best=float("nan")), "progress.json is missing"
    ),
    "an infinite loss": on(
        RESUME, json_values(f"{CHECKPOINT}/progress.json", loss=float("inf")), "progress.json is missing"
    ),
    "seconds below 0": on(
        RESUME, json_values(f"{CHECKPOINT}/progress.json", seconds=-1), "progress.json is missing"
    ),
    "endless brackets in the dataset facts": on(
        EVALUATE, holding("dataset/dataset.json", DEEP), "run/dataset is damaged", COPY
    ),
    "dataset facts that are a list": on(
        EVALUATE, holding("dataset/dataset.json", "[1]"), "run/dataset is damaged"
    ),
    "a dataset of version []": on(EVALUATE, json_values("dataset/dataset.json", version=[]), "run/dataset"),
    "a dataset of a future version": on(
        EVALUATE, json_values("dataset/dataset.json", version=99), "has version 99", COPY
    ),
    "histories as text": on(
        EVALUATE, holding("dataset/histories.parquet", "user,items\n"), "run/dataset is damaged"
    ),
    "histories, their beginning only": on(
        EVALUATE, holding("dataset/histories.parquet", b"PAR1"), "run/dataset is damaged"
    ),
    "histories without users": on(
        EVALUATE, table("histories.parquet", lambda t: t.drop("user")), "run/dataset is damaged"
    ),
    "histories of words": on(
        EVALUATE,
        table("histories.parquet", lambda t: t.with_columns(items=pl.lit("x"))),
        "run/dataset is damaged",
    ),
    "histories with nulls": on(
        EVALUATE,
        table("histories.parquet", lambda t: t.with_columns(user=pl.lit(None))),
        "run/dataset is damaged",
    ),
    "histories outside the catalogue": on(
        EVALUATE,
        table("histories.parquet", lambda t: t.with_columns(pl.col("items") + 10**9)),
        "run/dataset is damaged",
    ),
    "histories of items below 0": on(
        EVALUATE,
        table("histories.parquet", lambda t: t.with_columns(pl.col("items") - 1)),
        "run/dataset is damaged",
    ),
    "histories with times in words": on(
        EVALUATE,
        table("histories.parquet", lambda t: t.with_columns(times=pl.lit("now"))),
        "run/dataset is damaged",
    ),
    "histories with lists of words for times": on(
        EVALUATE,
        table("histories.parquet", lambda t: t.with_columns(times=pl.lit(["now"]))),
        "run/dataset is damaged",
    ),
    "histories with too few times": on(
        EVALUATE,
        table("histories.parquet", lambda t: t.with_columns(times=pl.lit([1, 2]))),
        "run/dataset is damaged",
    ),
    "a user twice": on(
        EVALUATE,
        table("histories.parquet", lambda t: t.with_columns(user=pl.lit("u1"))),
        "run/dataset is damaged",
    ),
    "a history too few": on(EVALUATE, table("histories.parquet", lambda t: t[1:]), "run/dataset is damaged"),
    "a catalogue of numbers": on(
        EVALUATE,
        table("catalogue.parquet", lambda t: t.with_row_index("item2").select(item="item2")),
        "run/dataset is damaged",
    ),
    "an empty catalogue": on(
        EVALUATE, table("catalogue.parquet", lambda t: t.clear()), "run/dataset is damaged"
    ),
    "a catalogue in another order": on(
        EVALUATE, table("catalogue.parquet", lambda t: t.reverse()), "run/dataset is damaged"
    ),
    "a config of another model": on(
        EVALUATE,
        lambda run: (run / "config.toml").write_text("[model]\nd-model = 8\n"),
        "belongs to another run",
    ),
    "a config of another program": on(
        EVALUATE,
        holding("config.toml", "[tool.poetry]\nname = 'x'\n"),
        "run/config.toml: there is no table [tool]",
        COPY,
    ),
}

WEIGHTS: dict[str, Bad] = {
    "every weight not a number": on(
        RECOMMEND, every(lambda t: t * float("nan")), "infinite values or NaN", COPY
    ),
    "every weight infinite": on(EVALUATE, every(lambda t: t + float("inf")), "infinite values or NaN", COPY),
    "one weight not a number": on(
        EVALUATE,
        tensors(lambda found: found["layer_norm.bias"].__setitem__(0, float("nan"))),
        "layer_norm.bias",
        COPY,
    ),
    "weights in 64 bits": on(EVALUATE, every(torch.Tensor.double), "is float64, not float32", COPY),
    "weights in 16 bits": on(EVALUATE, every(torch.Tensor.bfloat16), "weight has the dtype BF16", COPY),
    "weights that are booleans": on(EVALUATE, every(torch.Tensor.bool), "is bool, not float32", COPY),
    "weights that are complex": on(
        EVALUATE, every(lambda t: t.to(torch.complex64)), "is complex64, not float32", COPY
    ),
    "no weights": on(
        EVALUATE,
        tensors(lambda found: list(map(found.pop, weights(found)))),
        "does not describe a model",
        COPY,
    ),
    "no item ids": on(RECOMMEND, tensors(lambda found: found.pop("item_ids")), "lacks the item ids", COPY),
    "item ids of no bytes": on(
        RECOMMEND,
        tensors(lambda found: found.update(item_ids=found["item_ids"][:0])),
        "the item ids in run/model.safetensors are not texts that differ, one for each item",
        COPY,
    ),
    "item ids in another order": on(
        RECOMMEND,
        tensors(lambda found: found.update(item_ids=reversed_ids(found["item_ids"]))),
        "run/model.safetensors belongs to another run: its item ids differ",
        COPY,
    ),
    "a model of other data": on(
        RECOMMEND, header_values(fingerprint="0" * 64), "belongs to another run: its data differ", COPY
    ),
    "a digest of something else": on(RECOMMEND, digest("0" * 64), "run/model.safetensors is damaged", COPY),
    "a digest that is a number": on(RECOMMEND, digest(7), "run/model.safetensors is damaged", COPY),
    "a model of a later format": on(EVALUATE, header_values(format=10**30), f"has format {10**30}", COPY),
    "a format in words": on(EVALUATE, header_values(format="two"), "run/model.safetensors", COPY),
    "metrics of the model in words": on(
        EVALUATE, header_values(metrics="good"), "does not describe a model", COPY
    ),
    "a weight too few": on(
        EVALUATE, tensors(lambda found: found.pop("layer_norm.weight")), "it has no tensor layer_norm.weight"
    ),
    "a weight too many": on(
        EVALUATE, tensors(lambda found: found.update(extra=torch.zeros(1))), "it has a tensor extra"
    ),
    "weights of no rows": on(EVALUATE, every(lambda t: t[:0] if t.dim() else t), "has the shape", COPY),
    "an optimizer not a number": on(
        RESUME,
        every(lambda t: t * float("nan"), f"{CHECKPOINT}/optimizer.safetensors"),
        "infinite values or NaN",
        "delete",
    ),
    "a checkpoint not a number": on(
        RESUME, every(lambda t: t * float("nan"), f"{CHECKPOINT}/{MODEL}"), "infinite values or NaN", "delete"
    ),
    "the model in place of the optimizer": on(
        RESUME,
        lambda run: shutil.copy(run / MODEL, run / CHECKPOINT / "optimizer.safetensors"),
        "holds a recblr model, not a",
    ),
    "the optimizer in place of the model": on(
        EVALUATE,
        lambda run: shutil.copy(run / CHECKPOINT / "optimizer.safetensors", run / MODEL),
        "holds a recblr optimizer, not a model",
    ),
    "a header longer than the file": on(
        EVALUATE, holding(MODEL, struct.pack("<Q", 2**63) + b"{}"), DAMAGED, COPY
    ),
    "a header of 100 MB that is not there": on(
        EVALUATE, holding(MODEL, struct.pack("<Q", 10**8) + b"{}"), DAMAGED, COPY
    ),
    "a header of length 0": on(EVALUATE, holding(MODEL, struct.pack("<Q", 0)), DAMAGED, COPY),
    "a header that is a list": on(EVALUATE, holding(MODEL, struct.pack("<Q", 2) + b"[]"), NO_MODEL, COPY),
    "endless brackets in the header": on(
        EVALUATE, holding(MODEL, struct.pack("<Q", 100_000) + DEEP.encode()), NO_MODEL, COPY
    ),
    "endless objects in the header": on(
        EVALUATE, holding(MODEL, struct.pack("<Q", 500_000) + b'{"a":' * 100_000), DAMAGED, COPY
    ),
    "a header that is not UTF-8": on(
        EVALUATE, holding(MODEL, struct.pack("<Q", 2) + b"\xff\xfe"), NO_MODEL, COPY
    ),
    "a tensor of a size below 0": on(EVALUATE, first_tensor(shape=[-1, 4]), DAMAGED, COPY),
    "a tensor of 2^62 numbers": on(EVALUATE, first_tensor(shape=[2**31, 2**31]), DAMAGED, COPY),
    "a tensor that overflows": on(EVALUATE, first_tensor(shape=[2**40, 2**40]), DAMAGED, COPY),
    "a tensor in words": on(EVALUATE, first_tensor(shape="wide"), DAMAGED, COPY),
    "an unknown dtype": on(EVALUATE, first_tensor(dtype="F7"), DAMAGED, COPY),
    "a tensor over another": on(EVALUATE, first_tensor(data_offsets=[0, 4]), DAMAGED, COPY),
    "a tensor after the end of the file": on(EVALUATE, first_tensor(data_offsets=[0, 2**60]), DAMAGED, COPY),
    "a tensor that ends before it begins": on(EVALUATE, first_tensor(data_offsets=[8, 0]), DAMAGED, COPY),
    "metadata of numbers": on(
        EVALUATE, header(lambda entries: entries["__metadata__"].update(recblr=7)), DAMAGED, COPY
    ),
    "no metadata": on(
        EVALUATE, header(lambda entries: entries.pop("__metadata__")), "was not written by recblr", COPY
    ),
    "endless brackets in our entry": on(
        EVALUATE,
        header(lambda entries: entries["__metadata__"].update(recblr=DEEP)),
        "was not written by recblr",
        COPY,
    ),
    "our entry as a list": on(
        EVALUATE,
        header(lambda entries: entries["__metadata__"].update(recblr="[]")),
        "was not written by recblr",
        COPY,
    ),
    "a kind that is a list": on(EVALUATE, header_values(kind=["model"]), "not a model", COPY),
    "a catalogue in words": on(
        EVALUATE, header_values(num_items="many"), "are not texts that differ, one for each item", COPY
    ),
    "a catalogue of a boolean size": on(
        EVALUATE, header_values(num_items=True), "are not texts that differ, one for each item", COPY
    ),
    "a catalogue of a size below 0": on(
        EVALUATE, header_values(num_items=-1), "are not texts that differ, one for each item", COPY
    ),
    "a catalogue of 10^30": on(
        EVALUATE, header_values(num_items=10**30), "are not texts that differ, one for each item", COPY
    ),
    "a catalogue of 2^62": on(
        EVALUATE, header_values(num_items=2**62), "are not texts that differ, one for each item", COPY
    ),
    "a config that is a list": on(
        EVALUATE, header_values(config=[1]), "does not describe a model of recblr", COPY
    ),
    "a config that is None": on(
        EVALUATE, header_values(config=None), "does not describe a model of recblr", COPY
    ),
    "layers of 10^9": on(EVALUATE, model_options(num_layers=10**9), "does not describe", COPY),
    "layers of 10^30": on(EVALUATE, model_options(num_layers=10**30), "does not describe", COPY),
    "layers in a fraction": on(EVALUATE, model_options(num_layers=1.5), "does not describe", COPY),
    "a width of 10^9": on(EVALUATE, model_options(d_model=10**9), "run/model.safetensors", COPY),
    "a width in words": on(
        EVALUATE, model_options(d_model="wide"), "does not describe a model of recblr", COPY
    ),
    "a width of None": on(EVALUATE, model_options(d_model=None), "does not describe a model of recblr", COPY),
    "an expansion larger than any float": on(
        EVALUATE, model_options(expand=1e308), "does not describe a model of recblr", COPY
    ),
    "an expansion of nan": on(
        EVALUATE, model_options(expand=float("nan")), "does not describe a model of recblr", COPY
    ),
    "an option too many": on(EVALUATE, model_options(zzz=1), "has no option zzz", "recblr that wrote it"),
    "an option that is a list": on(
        EVALUATE, model_options(lambda_init=[]), "does not describe a model of recblr", COPY
    ),
    "a length in words": on(
        EVALUATE, model_options(max_length="long"), "does not describe a model of recblr", COPY
    ),
}

CASES = PLACES | CONTENTS | WEIGHTS


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_run_gives_one_sentence(name: str, tmp_path: Path, finished: Path) -> None:
    check(CASES[name], tmp_path, finished)
