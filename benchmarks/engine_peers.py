"""What the engine is compared with: the model in PyTorch, SASRec in ONNX Runtime, faiss and usearch.

A peer that is not installed is no error: `why_not` says so, and the benchmark goes on without it.
"""

import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from recblr.config import SASRecConfig
from recblr.data import Packed
from recblr.nn.baselines import SASRecEncoder
from recblr.serving.scorer import model_scorer

FAISS, USEARCH, ONNX = "faiss IndexFlatIP", "usearch, exact", "ONNX Runtime, SASRec"
PACKAGES = {FAISS: ("faiss",), USEARCH: ("usearch",), ONNX: ("onnx", "onnxruntime")}
BEST = 10
BLAS_FROM = 20  # queries: from this batch size on, faiss multiplies matrices


def why_not(peer):
    """The reason why a peer does not run; empty if it runs."""
    missing = [package for package in PACKAGES[peer] if not find_spec(package)]
    return f"not installed: {', '.join(missing)}" if missing else ""


def in_torch(model, events, random):
    """A function that scores one history of this length with PyTorch, and takes the ten best."""
    score = model_scorer(model)
    items = random.integers(0, model.num_items, events)
    times = 1e9 + 1000.0 * np.arange(events)
    known = {"times": times, "request_times": times[-1:]}
    history = Packed(items, np.array([0, events]), **{name: known[name] for name in model.time_arguments})

    def call():
        with torch.no_grad():
            return torch.topk(score(history)[0], BEST)

    return call


class _Sasrec(torch.nn.Module):
    """SASRec's ten best items after one history."""

    def __init__(self, num_items, width, layers, events):
        super().__init__()
        config = SASRecConfig(d_model=width, num_layers=layers, max_length=events, time="none")
        self.items = torch.nn.Embedding(num_items, width)
        self.encoder = SASRecEncoder(config)

    def forward(self, items):
        hidden = self.encoder(self.items(items) * self.items.embedding_dim**0.5)
        return torch.topk(self.items.weight @ hidden[0, -1], BEST)


def in_onnx(num_items, width, layers, events):
    """A function that scores one history with an exported SASRec in ONNX Runtime, on one thread."""
    import onnxruntime

    model = _Sasrec(num_items, width, layers, events).eval()
    items = torch.randint(num_items, (1, events))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sasrec.onnx"
        with (
            warnings.catch_warnings()
        ):  # it warns that Python's conditions are traced once, as they should be
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (items,), file, dynamo=False, input_names=["items"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    given = {"items": items.numpy()}
    with torch.no_grad():
        expected = model(items)[0].numpy()
    np.testing.assert_allclose(session.run(None, given)[0], expected, rtol=1e-3, atol=1e-3)
    return lambda: session.run(None, given)


def in_faiss(rows, threads):
    """A function of queries (Q, D): the ten best of the rows, (Q, 10)."""
    import faiss

    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = BLAS_FROM
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(np.ascontiguousarray(rows))

    def call(queries):
        faiss.omp_set_num_threads(threads)
        return index.search(queries, BEST)[1]

    return call


def in_usearch(rows, threads):
    """A function of queries (Q, D): the ten best of the rows, (Q, 10)."""
    from usearch.index import MetricKind, search

    def call(queries):
        return np.asarray(
            search(rows, queries, BEST, MetricKind.IP, exact=True, threads=threads).keys
        ).reshape(len(queries), BEST)

    return call


SEARCHES = {FAISS: in_faiss, USEARCH: in_usearch}
