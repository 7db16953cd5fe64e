"""What a model knows of time: the gaps between events, and the gap from the last event to the request.

The paper's model knows only the order of events.  But what comes next depends on when it comes: after seconds
the same visit goes on, and after weeks another one begins.  docs/results-time.md shows what each part gives.

Times are seconds since 1970 in float64, because float32 has steps of two minutes there.  Gaps are float32.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.config.model import KNOTS_PER_DOUBLING, NUM_KNOTS


class Gaps(NamedTuple):
    """The gaps around N events, in seconds, each ``(N,)`` float32 and never negative.

    past: from the event before in the same history; 0 for the first event.
    next: to the next event, or to the request after the last event.  None if the model does not know it.
    """

    past: Tensor
    next: Tensor | None

    def at(self, rows: Tensor) -> "Gaps":
        """The gaps around the events in these rows."""
        return Gaps(self.past[rows], None if self.next is None else self.next[rows])


class GapFunction(nn.Module):
    """A learned function of a gap of time: ``(...)`` seconds -> ``(..., width)``.

    It is piecewise linear in log2(1 + gap), and `knots` holds its values where the pieces meet.  So gaps that
    are nearly equal have nearly the same value, a second more means less after a day than after a second, and
    the value is finite for every gap.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.knots = nn.Embedding(NUM_KNOTS, width)

    def forward(self, gap: Tensor) -> Tensor:
        place = (KNOTS_PER_DOUBLING * torch.log2(1 + gap)).clamp(max=NUM_KNOTS - 1)
        left = place.floor().clamp(max=NUM_KNOTS - 2)
        # One call, because a module is called once in each pass.
        start, end = self.knots(torch.stack([left, left + 1]).long())
        value: Tensor = torch.lerp(start, end, (place - left).unsqueeze(-1).to(start.dtype))
        return value


class Fading(nn.Module):
    """How much more the states fade over a gap: the factor g of the decay, ``(...)`` -> ``(..., 1)``.

    g is learned and positive, and g(0) = 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logarithm = GapFunction(1)

    def forward(self, gap: Tensor) -> Tensor:
        factor: Tensor = torch.exp(self.logarithm(gap) - self.logarithm.knots.weight[0])
        return factor


class Answer(nn.Module):
    """What the gap to the request changes in a hidden vector: ``h + W2 SiLU(W1 [h, f(gap)] + b1) + b2``.

    It changes nothing before the training, because W2 and b2 start at zero.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gap = GapFunction(width)
        self.w_1 = nn.Linear(2 * width, 4 * width)
        self.w_2 = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor, gap: Tensor) -> Tensor:
        inner = F.silu(self.w_1(torch.cat([hidden, self.gap(gap).to(hidden.dtype)], -1)))
        changed: Tensor = hidden + self.w_2(inner)
        return changed


class TimeEncoder(nn.Module):
    """What gaps add to the vectors of events, and what the time of a request changes in the answer.

    longest_gap: ``()`` int64, the longest gap of training in seconds.  A longer gap counts as this one,
        because the model has learned nothing about it.
    step, start: ``()`` int64 seconds.  All times of training lie whole steps after `start`, for example at
        midnight.  The model rounds every time down to such a moment, because it has learned nothing about
        the times between.  A step of 0 rounds nothing.

    Args:
        width: D, of the vectors.
        with_request: whether the model knows the time of the request.
    """

    longest_gap: Tensor
    step: Tensor
    start: Tensor

    def __init__(self, width: int, *, with_request: bool) -> None:
        super().__init__()
        self.past = GapFunction(width)
        self.next = GapFunction(width) if with_request else None
        self.answer = Answer(width) if with_request else None
        # Whole numbers, because a cast of the model to bfloat16 leaves them as they are.
        self.register_buffer("longest_gap", torch.tensor(2**31 - 1))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("start", torch.tensor(0))

    def reset_answer(self) -> None:
        """Let the answer change nothing: `initialise` has drawn its weights."""
        if self.answer is not None:
            nn.init.zeros_(self.answer.w_2.weight)

    def set_range(self, longest_gap: int, step: int = 0, start: int = 0) -> None:
        """Set the buffers, which describe the times of training."""
        self.longest_gap.fill_(longest_gap)
        self.step.fill_(step)
        self.start.fill_(start)

    def gaps(
        self, times: Tensor, request_times: Tensor | None, offsets: Tensor, before: Tensor | None = None
    ) -> Gaps:
        """The gaps around packed events.

        A time that is earlier than that of the event before makes a gap of 0.

        times: ``(N,)`` float64.
        request_times: ``(S,)`` float64, or None.
        offsets: ``(S + 1,)``, see :func:`recblr.scan`.
        before: ``(S,)`` float64, the time of the event before the first one; NaN if there is none.
        """
        times = self._moments(times)
        # On a GPU, the offsets are not checked.
        last_sequence = max(0, offsets.shape[0] - 2)
        numbers = torch.arange(times.shape[0], dtype=offsets.dtype, device=offsets.device)
        owner = torch.searchsorted(offsets[1:].contiguous(), numbers, right=True).clamp(max=last_sequence)
        changes = owner[1:] != owner[:-1]
        first, last = (F.pad(changes, sides, value=True)[: times.shape[0]] for sides in ((1, 0), (0, 1)))
        earlier = times.roll(1)
        if before is None:
            earlier = torch.where(first, times, earlier)
        else:
            earlier = torch.where(first, self._moments(before)[owner], earlier)
        past = self._gap(earlier, times)
        if self.next is None or request_times is None:
            return Gaps(past, None)
        later = torch.where(last, self._moments(request_times)[owner], times.roll(-1))
        return Gaps(past, self._gap(times, later))

    def forward(self, gaps: Gaps) -> Tensor:
        """The vectors ``(N, D)`` to add to those of the items."""
        vectors: Tensor = self.past(gaps.past)
        return vectors if self.next is None else vectors + self.next(gaps.next)

    def gap(self, start: Tensor, end: Tensor) -> Tensor:
        """The gap in seconds, float32, between two times (...) float64, as the model sees it."""
        return self._gap(self._moments(start), self._moments(end))

    def _moments(self, times: Tensor) -> Tensor:
        step = self.step.clamp(min=1)
        rounded = torch.floor((times - self.start) / step) * step + self.start
        return torch.where(self.step == 0, times, rounded)

    def _gap(self, start: Tensor, end: Tensor) -> Tensor:
        # NaN is the time of no event.
        gap = (end - start).nan_to_num(0.0).clamp(min=0)
        return torch.minimum(gap, self.longest_gap.to(gap.dtype)).float()
