"""The model RecBLR: item embedding, blocks and scores.  `build_model` makes the model of any config."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recblr.config.model import GRU4RecConfig, ModelConfig, RecBLRConfig, SASRecConfig
from recblr.errors import InputError
from recblr.nn.base import NextItemModel, check_finite
from recblr.nn.baselines import GRU4Rec, SASRec
from recblr.nn.common import LAYER_NORM_EPS, Dropout, initialise
from recblr.nn.layer import RecBLRLayer
from recblr.nn.padding import at_hand, run_packed
from recblr.nn.states import LayerStates, Pending, Rows, State, TimedState, chosen
from recblr.nn.time import Fading, Gaps
from recblr.ops import check_offsets


class RecBLR(NextItemModel):
    """The sequential recommender RecBLR (arXiv 2406.12580): eq. 1, Alg. 1, Fig. 2 and eq. 2.

    By default, each layer also has a :class:`HistoryAverage`.  The paper has none.

    Items are integers ``0 <= item < num_items``.  There is no padding item.  Histories of different lengths
    are packed, or they are padded on the right and ``lengths`` says where the padding begins.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters; None means the defaults of :class:`RecBLRConfig`.
    """

    config: RecBLRConfig

    def __init__(self, num_items: int, config: RecBLRConfig | None = None) -> None:
        config = config or RecBLRConfig()
        super().__init__(num_items, config)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(config.dropout_rate)
        # The type is a list of the members, because mypy does not know the members of a ModuleList.
        self.layers: list[RecBLRLayer] = nn.ModuleList(  # type: ignore[assignment]
            RecBLRLayer(**vars(config.layer())) for _ in range(config.num_layers)
        )
        self.fading = None if self.time is None else Fading()
        self.apply(initialise)
        if self.time is not None:
            self.time.reset_answer()

    def forward(
        self,
        items: Tensor,
        *,
        times: Tensor | None = None,
        request_times: Tensor | None = None,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: State | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, State]:
        """Hidden vectors after every event.

        Args:
            items: ``(B, T)`` integers, or packed ``(N,)`` with ``offsets``, or a jagged nested tensor
                ``(B, T)``.
            times: float64 seconds since 1970 in UTC, of the shape of items (nested if they are).  Only a
                model that knows no time can do without, and ignores them.  A time that is earlier than that
                of the event before makes a gap of 0, and so does a request before the last event.
            request_times: ``(B,)`` or ``(S,)`` float64, when the item after the last event of each history is
                asked for.  Only a model with ``time="request"`` uses them.  The item after any other event is
                asked for at the time of the next event.
            lengths: ``(B,)`` for a batch padded on the right; see :class:`RecBLRLayer`.
            offsets: ``(S + 1,)`` for packed histories, see :func:`recblr.scan`.
            state: the state after an earlier part of the same histories; None at the beginning.
            return_state: also return the state after the last event of every history, as :meth:`with_state`
                does.

        Returns:
            ``(B, T, D)`` or ``(N, D)``, nested if the items are.  :meth:`scores` computes scores from it.
            With return_state, a tuple of this and the state.

        Raises:
            ValueError: the items are not integers, or (on a CPU) an item is not in the catalogue; both
                lengths and offsets are given, or one of them has a wrong shape or range; the state does not
                fit; times that the model needs are missing, do not fit, or (on a CPU) are not finite.
        """
        if self.time is None:
            times = request_times = None
        else:
            self.check_times(items, _sequences(items, offsets), times, request_times)
        self._check_state(state)
        run = partial(self._run, return_state)
        given = (state, request_times)
        hidden, new_state = run_packed(
            run, items, lengths, offsets, given, times, padded="(B, T)", packed="items"
        )
        return (hidden, new_state) if return_state else hidden

    def with_state(
        self,
        items: Tensor,
        *,
        times: Tensor | None = None,
        request_times: Tensor | None = None,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """As :meth:`forward`, but also return the state after the last event of every history.

        With ``time="request"``, packed histories and lengths cannot be part of a compiled graph here.
        """
        output: tuple[Tensor, State]
        output = self(
            items,
            times=times,
            request_times=request_times,
            lengths=lengths,
            offsets=offsets,
            state=state,
            return_state=True,
        )
        return output

    def step(
        self,
        items: Tensor,
        state: State | None = None,
        *,
        time: Tensor | None = None,
        request_time: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run one event of each history, at constant cost.

        Args:
            items: ``(B,)``.
            state: the state before the events; None at the beginning.
            time: ``(B,)`` float64, when the events happened, as in :meth:`forward`.
            request_time: ``(B,)`` float64, when the next item is asked for, as in :meth:`forward`.

        Returns:
            The hidden vectors ``(B, D)`` and the new state.

        Raises:
            ValueError: as :meth:`forward`.
        """
        if self.time is not None:
            # Here, because the pass would name another shape.
            self.check_times(items, items.numel(), time, request_time)
        if items.dim() != 1 and not items.is_nested:
            raise ValueError(
                f"items must be (B,), one event of each history, but has shape {tuple(items.shape)}"
            )
        times = None if self.time is None or time is None else time.unsqueeze(1)
        hidden, state = self(
            items.unsqueeze(1), times=times, request_times=request_time, state=state, return_state=True
        )
        return hidden.squeeze(1), state

    def hidden_at(self, state: State, request_time: Tensor) -> Tensor:
        """The hidden vectors for a request at another time, without an event.  The state does not change.

        Args:
            state: from a model with ``time="request"``.
            request_time: ``(B,)`` float64 seconds since 1970, when the next item is asked for.

        Returns:
            ``(B, D)``.  Zeros for a history without events, so that all items have the same score.

        Raises:
            ValueError: the model does not know the time of a request, the state or the times do not fit, or
                (on a CPU) a time is not finite.
        """
        if self.time is None or self.time.next is None:
            raise InputError(
                f"a model with time={self.config.time_use!r} does not know when an item is asked for",
                "use the hidden vectors that the last event returned",
            )
        if not isinstance(state, TimedState) or state.pending is None:
            raise self._wrong_state()
        self._check_state(state)
        item, gap = state.pending
        self.check_times(item, item.shape[0], state.time, request_time)
        check_finite(request_times=request_time)
        gaps = Gaps(gap, self.time.gap(state.time, request_time))
        steps = torch.arange(item.shape[0] + 1, device=item.device)
        hidden, _ = self._encode(item.clamp(min=0), gaps, steps, state.layers, False)
        return hidden.where(item.unsqueeze(-1) >= 0, 0)

    def _check_state(self, state: State | None) -> None:
        if state is None:
            return
        pending = isinstance(state, TimedState) and state.pending is not None
        if isinstance(state, TimedState) != (self.time is not None) or pending != (
            self.config.time_use == "request"
        ):
            raise self._wrong_state()
        layers = state.layers if isinstance(state, TimedState) else state
        if len(layers) != len(self.layers):
            raise ValueError(
                f"state must hold a state for each of the {len(self.layers)} layers, but holds {len(layers)}"
            )

    def _wrong_state(self) -> ValueError:
        use = self.config.time_use
        return ValueError(f"the state does not fit a model with time={use!r}: give a state that it returned")

    def _run(
        self,
        return_state: bool,
        items: Tensor,
        times: Tensor | None,
        offsets: Tensor | None,
        given: tuple[State | None, Tensor | None],
    ) -> tuple[Tensor, State]:
        """The hidden vectors, and the new state, which is () without return_state.

        items, times: ``(B, T)``, or packed with offsets.
        given: the state before, and the times of the requests.
        """
        state, request_times = given
        if self.time is None:
            assert not isinstance(state, TimedState)
            return self._encode(items, None, offsets, state, return_state)
        assert times is not None
        assert state is None or isinstance(state, TimedState)
        check_finite(times=times, request_times=request_times)
        if offsets is not None and at_hand(offsets):
            check_offsets(offsets, items.shape[0])
        rows, shape = Rows.of(items, offsets), (*items.shape, self.config.d_model)
        items, times = items.flatten(), times.flatten()
        gaps = self.time.gaps(times, request_times, rows.offsets, None if state is None else state.time)
        if state is None and not return_state:
            hidden, _ = self._encode(items, gaps, rows.offsets, None, False)
            return hidden.reshape(shape), ()
        if self.time.next is None:
            layers = None if state is None else state.layers
            hidden, layers = self._encode(items, gaps, rows.offsets, layers, True)
        else:
            hidden, layers = self._encode_pending(items, times, gaps, rows, state)
        return hidden.reshape(shape), self._state_after(items, times, gaps, rows, state, layers)

    def _encode_pending(
        self, items: Tensor, times: Tensor, gaps: Gaps, rows: Rows, state: TimedState | None
    ) -> tuple[Tensor, LayerStates]:
        """The hidden vectors of packed events, and the states of the layers before the last ones.

        The pending events are taken in first, then all events except the last ones.  The last ones take a
        step that is not kept.
        """
        layers = None if state is None else state.layers
        if state is not None and rows.count:
            layers = self._take_in(state, rows.first(times), rows.filled)
        others, last = rows.split()
        hidden, layers = self._encode(items[others.rows], gaps.at(others.rows), others.offsets, layers, True)
        newest, _ = self._encode(items[last.rows], gaps.at(last.rows), last.offsets, layers, False)
        order = torch.cat([others.rows, last.rows]).argsort()
        return torch.cat([hidden, newest])[order], layers

    def _state_after(
        self,
        items: Tensor,
        times: Tensor,
        gaps: Gaps,
        rows: Rows,
        state: TimedState | None,
        layers: LayerStates,
    ) -> TimedState:
        """The state after packed events.  A history without events keeps what `state` says of it."""
        assert self.time is not None
        before = (
            torch.full_like(rows.offsets[1:], torch.nan, dtype=times.dtype) if state is None else state.time
        )
        pending = None
        if self.time.next is not None:
            old = Pending.none(before) if state is None or state.pending is None else state.pending
            pending = Pending(rows.latest(items.long(), old.item), rows.latest(gaps.past, old.gap))
        return TimedState(layers, rows.latest(times, before), pending)

    def _take_in(self, state: TimedState, next_times: Tensor, known: Tensor) -> LayerStates:
        """The states of the layers after the pending events, of histories whose next event is known."""
        assert self.time is not None
        assert state.pending is not None
        item, gap = state.pending
        gaps = Gaps(gap, self.time.gap(state.time, next_times))
        steps = torch.arange(item.shape[0] + 1, device=item.device)
        _, layers = self._encode(item.clamp(min=0), gaps, steps, state.layers, True)
        return chosen(known & (item >= 0), layers, state.layers)

    def _encode(
        self,
        items: Tensor,
        gaps: Gaps | None,
        offsets: Tensor | None,
        state: LayerStates | None,
        return_state: bool,
    ) -> tuple[Tensor, LayerStates]:
        """The hidden vectors after every event, and the states of the layers; () without return_state."""
        x, scale = self.embed(items), None
        if gaps is not None:
            assert self.time is not None
            assert self.fading is not None
            x, scale = x + self.time(gaps), self.fading(gaps.past)
        x = self.layer_norm(self.dropout(x))
        states = []
        for i, layer in enumerate(self.layers):
            given = {"offsets": offsets, "state": state[i] if state else None, "scale": scale}
            if return_state:
                x, layer_state = layer(x, **given, return_state=True)
                states.append(layer_state)
            else:
                x = layer(x, **given)
        return self.answer(x, gaps), tuple(states)


def _sequences(items: Tensor, offsets: Tensor | None) -> int:
    """The number of histories.  Raises the errors of :meth:`RecBLR.forward` about the form of the items."""
    for name, value in (("items", items), ("offsets", offsets)):
        if value is not None and not isinstance(value, Tensor):
            kind = type(value).__name__
            raise TypeError(f"{name} must be a tensor of integers, but are of the type {kind}")
    if items.dim() != (2 if offsets is None else 1):
        raise ValueError(
            "items must be a (B, T) batch, or packed (N,) with offsets, but have the shape"
            f" {tuple(items.shape)} {'without' if offsets is None else 'with'} offsets"
        )
    return items.size(0) if offsets is None else offsets.shape[0] - 1


_MODELS: dict[type[ModelConfig], Callable[[int, Any], NextItemModel]] = {
    RecBLRConfig: RecBLR,
    SASRecConfig: SASRec,
    GRU4RecConfig: GRU4Rec,
}


def build_model(num_items: int, config: ModelConfig) -> NextItemModel:
    """A new model for a catalogue of num_items.  Its weights are drawn from torch's generator.

    The weights are float32, whatever torch's default dtype is: training, model files and serving expect that.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return _MODELS[type(config)](num_items, config)
    finally:
        torch.set_default_dtype(default)
