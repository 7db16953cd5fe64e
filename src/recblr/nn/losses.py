"""Losses of the next item: over the whole catalogue, or against a few items drawn at random."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.nn.repeats import Repeats
from recblr.ops.common.registration import raise_value_errors
from recblr.ops.cross_entropy import mean_cross_entropy

__all__ = [
    "Proposal",
    "bpr_loss",
    "gbce_beta",
    "gbce_bias",
    "gbce_loss",
    "linear_cross_entropy",
    "sampled_softmax_loss",
]


@raise_value_errors
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    repeats: Repeats | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean over rows of ``-log softmax(hidden @ weight.T)[target]``, in memory bounded by a chunk.

    Ours rather than torch's chunked ``linear_cross_entropy`` (from 2.13): the same result on every
    torch, faster on CPU (benchmarks/loss.py), and with a bias of repeats.  Not twice differentiable.

    Args:
        hidden: ``(N, D)``.
        weight: ``(V, D)``, an embedding a catalogue item.
        targets: ``(N,)`` int64, ``0 <= target < V``.
        repeats: a bias, of hidden's dtype, of the logits of items that a row's user already has.
        label_smoothing: share in [0, 1] of each target that all items get alike (Szegedy et al., CVPR
            2016, sec. 7), which leaves the bias of repeats out: how often items recur is known well enough.

    Returns:
        A scalar of hidden's dtype; 0 where N is 0.

    Raises:
        ValueError: a target outside the catalogue, a label_smoothing outside [0, 1], or a shape or dtype
            that does not fit (in 16 bits and elsewhere than on a CPU, RuntimeError in torch's words).
        TypeError: an argument is no tensor.
    """
    for name, value in (("hidden", hidden), ("weight", weight), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, but is of the type {type(value).__name__}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], but is {label_smoothing}")
    histories = (repeats.bias, repeats.items, repeats.offsets, repeats.rows) if repeats else (None,) * 4
    loss = mean_cross_entropy(hidden, weight, targets, *histories)
    if label_smoothing and len(targets):
        # Shares move between scores under one normaliser, so what they change is linear in the scores.
        wanted = torch.linalg.vecdot(hidden, F.embedding(targets, weight)).mean()
        loss = loss + label_smoothing * (wanted - hidden.mean(0) @ weight.mean(0))
    return loss


def paired_scores(
    hidden: Tensor, weight: Tensor, targets: Tensor, negatives: Tensor, repeats: Repeats | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of each row's target and of all negatives, and which negatives are the row's own target.

    The negatives are shared by all rows: their scores are one small matrix product, where negatives of
    each row's own would gather N * K embeddings and scatter as many gradients (for N = 1024, K = 256 and
    D = 64 that is 64 MiB each way, and took 25 times as long on a CPU).

    Args:
        hidden: ``(N, D)``.
        weight: ``(V, D)``, an embedding a catalogue item.
        targets: ``(N,)`` int64, ``0 <= target < V``.
        negatives: ``(K,)`` int64, likewise; an item may come more than once.
        repeats: a bias of the scores of items that a row's user already has.

    Returns:
        ``(N,)``, ``(N, K)``, and ``(N, K)`` bool.

    Raises:
        ValueError: targets or negatives is of another shape.
    """
    if hidden.dim() != 2 or targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"targets must be (N,), one a row of hidden (N, D), but they are {tuple(targets.shape)}"
            f" and {tuple(hidden.shape)}"
        )
    if negatives.dim() != 1 or not negatives.numel():
        raise ValueError(f"negatives must be (K,) with K >= 1, but is {tuple(negatives.shape)}")
    positive = torch.linalg.vecdot(hidden, weight[targets])
    negative = hidden @ weight[negatives].mT
    if repeats is not None:
        compared = torch.cat([targets.unsqueeze(1), negatives.expand(len(targets), -1)], 1)
        added = repeats.of(compared)
        positive, negative = positive + added[:, 0], negative + added[:, 1:]
    return positive, negative, targets.unsqueeze(1) == negatives


class Proposal:
    """A distribution q over the catalogue, in which every item has a chance.

    Args:
        weights: ``(V,)``, positive; q is proportional to them.

    Raises:
        ValueError: weights is empty or of another shape, or one is not a positive number.
    """

    def __init__(self, weights: Tensor) -> None:
        weights = weights.to(torch.float64)
        if weights.dim() != 1 or not weights.numel():
            raise ValueError(f"weights must be (V,) with an item at least, but is {tuple(weights.shape)}")
        if not bool(((weights > 0) & weights.isfinite()).all()):
            # What q never draws, no correction can make up for.
            raise ValueError("weights must be positive numbers, one an item")
        self._cumulative = weights.cumsum(0)
        self._cumulative /= self._cumulative[-1].clone()
        self.log_q = (weights.log() - weights.sum().log()).to(torch.float32)
        """``(V,)`` float32, log q."""

    @classmethod
    def uniform(cls, num_items: int) -> "Proposal":
        """Every item alike."""
        return cls(torch.ones(num_items))

    @classmethod
    def popularity(cls, items: Tensor, num_items: int) -> "Proposal":
        """In proportion to 1 + how often an item is in `items` (any shape, int64)."""
        return cls(1 + torch.bincount(items.flatten(), minlength=num_items))

    def to(self, device: torch.device) -> "Proposal":
        """Draw on this device from now on, by its own generator; returns self, as torch.nn.Module.to does."""
        self._cumulative, self.log_q = self._cumulative.to(device), self.log_q.to(device)
        return self

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count,)`` int64 items, each drawn on its own: one may come again.

        generator: of the same device; torch's own where None.
        """
        uniform = torch.rand(count, dtype=torch.float64, device=self._cumulative.device, generator=generator)
        # Below the last of the cumulative sums, which is 1: always an item.
        return torch.searchsorted(self._cumulative, uniform, right=True)


def bpr_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, negatives: Tensor, repeats: Repeats | None = None
) -> Tensor:
    """Mean over rows and their negatives of ``-log sigmoid(s_target - s_negative)``.

    BPR-Opt (Rendle et al., UAI 2009, sec. 4.1) without its prior, with K negatives a row in place of one. A
    negative that is the row's own target does not count; a row with no other counts 0.

    Arguments and errors as of :func:`recblr.nn.losses.paired_scores`; returns a scalar of hidden's
    dtype, 0 where N is 0.
    """
    positive, negative, hits = paired_scores(hidden, weight, targets, negatives, repeats)
    losses = F.softplus(negative - positive.unsqueeze(1)).masked_fill(hits, 0)
    counted = (~hits).sum(1).clamp(min=1)
    return (losses.sum(1) / counted).sum() / max(len(targets), 1)


def sampled_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_q: Tensor,
    repeats: Repeats | None = None,
) -> Tensor:
    """Mean over rows of ``log(exp(s_target) + sum_k exp(s_k - log(K q_k))) - s_target``.

    The sum is an unbiased estimate of the softmax's normaliser: an item other than the target is drawn
    K q times in the mean, and weighs 1 / (K q) each time (importance sampling: Bengio & Senecal, IEEE
    Trans. Neural Networks 19(4), 2008; the logQ correction of Yi et al., RecSys 2019). The target
    is in the sum for certain and once, so its score is not corrected (cf. arXiv 2507.09331), and where it
    is drawn as well it does not count. Value and gradient go to those of the full cross entropy as K
    grows, whatever the proposal; for small K the loss is low in the mean, the logarithm being concave.

    Args:
        hidden, weight, targets, negatives, repeats: as of
            :func:`recblr.nn.losses.paired_scores`; negatives are drawn one by one, with replacement.
        log_q: ``(V,)``, the log-probability with which each item is drawn.

    Returns:
        A scalar of hidden's dtype; 0 where N is 0.

    Raises:
        ValueError: targets, negatives or log_q is of another shape.
    """
    if log_q.shape != weight.shape[:1]:
        raise ValueError(f"log_q must be ({weight.shape[0]},), one an item, but is {tuple(log_q.shape)}")
    positive, negative, hits = paired_scores(hidden, weight, targets, negatives, repeats)
    corrected = negative - (log_q.to(negative.dtype)[negatives] + math.log(len(negatives)))
    scores = torch.cat([positive.unsqueeze(1), corrected.masked_fill(hits, -math.inf)], 1)
    return (scores.logsumexp(1) - positive).sum() / max(len(targets), 1)


def gbce_beta(negatives: int, num_items: int, t: float) -> float:
    """``beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)``, with alpha the sampling rate.

    alpha = negatives / (num_items - 1), at most 1. t in [0, 1] says how far the loss is calibrated: 0 is
    plain binary cross entropy (beta = 1), 1 makes the sigmoid the probability that an item is next
    (beta = alpha). Petrov & Macdonald, gSASRec (RecSys 2023, arXiv 2308.07192).
    """
    alpha = min(1.0, negatives / max(num_items - 1, 1))
    return t * (alpha - 1) + 1


def gbce_bias(beta: float, negatives: int) -> float:
    """``log(beta / K)``, the score at which gBCE is least where nothing is known of items; K is `negatives`.

    Each of V items is then the target with the chance 1 / V, where it pulls with weight beta, and a
    negative K / V times.  Fully calibrated, where beta = K / (V - 1), that is the log-odds of an item taken
    at random.
    """
    return math.log(beta / negatives)


def gbce_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    negatives: Tensor,
    beta: float,
    bias: float = 0.0,
    repeats: Repeats | None = None,
) -> Tensor:
    """Mean over rows of ``-(beta log sigmoid(s_target) + sum_k log(1 - sigmoid(s_k))) / (K + 1)``.

    gBCE (Petrov & Macdonald, gSASRec, RecSys 2023, arXiv 2308.07192), for negatives drawn uniformly. A
    negative that is the row's own target does not count, in K neither.

    Args:
        hidden, weight, targets, negatives, repeats: as of :func:`recblr.nn.losses.paired_scores`.
        beta: see :func:`gbce_beta`.
        bias: added to every score, which leaves their order. The paper has none, but with embeddings that
            are the model's input too, as RecBLR's are, it should be :func:`gbce_bias`: a model that must
            first bring all scores down there does so by one direction that all embeddings share, and then
            hardly tells items apart (MovieLens-100K, 8 epochs: validation NDCG@10 of .010 without,
            .061 with).

    Returns:
        A scalar of hidden's dtype; 0 where N is 0.

    Raises:
        ValueError: targets or negatives is of another shape.
    """
    positive, negative, hits = paired_scores(hidden, weight, targets, negatives, repeats)
    others = F.softplus(negative + bias).masked_fill(hits, 0).sum(1)
    counted = (~hits).sum(1) + 1
    return ((beta * F.softplus(-positive - bias) + others) / counted).sum() / max(len(targets), 1)
