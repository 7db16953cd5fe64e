"""The program benchmarks/engine.cpp, which times the engine from inside, and the files that it reads."""

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
from reporting import ROOT

from recblr.run.model_tensors import EMBEDDING
from recblr.serving.engine import _facts

PROGRAM = Path(os.environ.get("RECBLR_ENGINE_INSIDE", ROOT / "build/check/tests/cpp/engine_inside"))
NOT_BUILT = f"{PROGRAM.name} is not built; make test builds it"


class Inside:
    """The running program; calling it sends one command and returns the answer."""

    def __init__(self):
        self._process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words):
        with suppress(BrokenPipeError):  # the answer will be missing
            print(*words, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{PROGRAM} ended at the command {words}, see above")
        return json.loads(answer)

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def write_model(folder, model, histories):
    """Write a model's content and the histories of its users in the form that the program reads."""
    facts = _facts(model)
    shape = [
        facts[name]
        for name in ("d_model", "d_inner", "d_conv", "num_layers", "padding_steps", "beta_epsilon")
    ]
    bias = facts["repeat_bias"]
    lines = [
        ["shape", *shape, int(facts["time"] != "none"), int(facts["time"] == "request")],
        ["clock", facts["longest_gap"], facts["step"], facts["start"]],
        ["repeats", int(bias is not None), bias or 0.0],
    ]
    offset = 0
    with (folder / "tensors").open("wb") as file:
        for name, tensor in model.tensors.items():
            if tensor.dtype != np.float32 or not tensor.ndim:
                continue
            words = (
                ["rows", offset, len(tensor)]
                if name == EMBEDDING
                else ["tensor", name, offset, *tensor.shape]
            )
            lines.append(words)
            file.write(np.ascontiguousarray(tensor).tobytes())
            offset += tensor.size
    lines += [["history", *history] for history in histories]
    (folder / "facts").write_text(
        "".join(" ".join(map(str, line)) + "\n" for line in lines), encoding="ascii"
    )


def write_table(file, rows, queries):
    """Write the items and the queries, both float32 (…, D)."""
    with file.open("wb") as out:
        out.write(np.ascontiguousarray(rows, np.float32).tobytes())
        out.write(np.ascontiguousarray(queries, np.float32).tobytes())
