"""The gated recurrent layer, and the RecBLR block that contains it."""

from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from recblr.config.model import LambdaInit, LayerConfig
from recblr.nn.common import LAYER_NORM_EPS, Dropout, PositionwiseFeedForward, check_last_axis
from recblr.nn.padding import run_packed
from recblr.nn.units import BDLRU, CausalConv1d, HistoryAverage
from recblr.ops import causal_conv1d


class LayerState(NamedTuple):
    """The state of a layer after B histories.  Its size does not depend on their lengths.

    All tensors are float32, or float64 for a float64 model.  H is the inner width, ``expand * d_model``.

    conv: ``(B, K - 1, H)``, the last inputs of the convolution, oldest first.
    hidden: ``(B, H)``, the state of the recurrence.
    average: ``(B, D)``, the state of the history average.  ``(B, 0)`` if the layer has none.
    """

    conv: Tensor
    hidden: Tensor
    average: Tensor


class GatedRecurrentLayer(nn.Module):
    """Projection, causal convolution, BD-LRU and output gate (Alg. 1 of arXiv 2406.12580).

    ``x, z = W_in u;  y = BDLRU(SiLU(Conv1d(x)));  out = W_out (y * SiLU(z))``.  With a history average, the
    output is ``out + average(u)``.

    Args:
        d_model: width D of input and output, or a :class:`LayerConfig` with all options.
        args, kwargs: the other fields of :class:`LayerConfig`, by position or by name.  `dropout`,
            `ffn_expand` and `ffn_dropout` are refused, because they belong to the block around this layer.  A
            :class:`LayerConfig` may set these three, and this layer ignores them.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: an argument belongs to the block around this layer.
    """

    def __init__(self, d_model: int | LayerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        if isinstance(d_model, LayerConfig):
            config = replace(d_model, *args, **kwargs)
        else:
            config = LayerConfig(d_model, *args, **kwargs)
            for name in ("dropout", "ffn_expand", "ffn_dropout"):
                if getattr(config, name) != getattr(LayerConfig, name):
                    raise TypeError(f"GatedRecurrentLayer has no {name}: use RecBLRLayer, its block")
        self.d_model, self.d_inner = config.d_model, config.d_inner
        self.padding_steps = config.padding_steps
        self.input = nn.Linear(self.d_model, 2 * self.d_inner, bias=False)
        self.conv1d = CausalConv1d(self.d_inner, config.d_conv)
        self.bdlru = BDLRU(self.d_inner, beta_epsilon=config.beta_epsilon, lambda_init=config.lambda_init)
        self.output = nn.Linear(self.d_inner, self.d_model, bias=False)
        self.average = HistoryAverage(self.d_model) if config.history_average else None

    def forward(
        self,
        u: Tensor,
        *,
        offsets: Tensor | None = None,
        state: LayerState | None = None,
        scale: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Run over whole sequences.

        Args:
            u: ``(B, T, D)``, or packed ``(N, D)`` with ``offsets``.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.
            state: the state after an earlier part of the same sequences; None at the beginning.
            scale: ``(..., 1)``, a factor of the decay in each step, see :class:`BDLRU`; None means 1.

        Returns:
            The output, of u's shape, and the state after the last event of every sequence.

        Raises:
            ValueError: a shape, dtype, offset or state does not fit.
        """
        check_last_axis("the input", u, self.d_model, "d_model")
        if state is not None and (state.average.shape[-1] == 0) != (self.average is None):
            has = "no history average" if self.average is None else "a history average"
            raise ValueError(f"the state does not fit: this layer has {has}; give a state that it returned")
        # Views, not copies.  The operators read rows that are not next to each other in memory.
        x, z = self.input(u).chunk(2, -1)
        before = self._padding(x) if state is None and self.padding_steps else None
        x, conv = self.conv1d(x, initial=state.conv if state else None, offsets=offsets)
        initial = state.hidden if state else None
        y, hidden = self.bdlru(x, z, initial=initial, offsets=offsets, before=before, scale=scale)
        out = self.output(y)
        if self.average is None:
            return out, LayerState(conv, hidden, hidden.new_empty(hidden.shape[0], 0))
        recent, average = self.average(u, initial=state.average if state else None, offsets=offsets)
        return out + recent, LayerState(conv, hidden, average)

    def step(self, u_t: Tensor, state: LayerState | None = None) -> tuple[Tensor, LayerState]:
        """Run one event of each sequence, u_t ``(B, D)``.  Return the output ``(B, D)`` and the new state."""
        y, state = self(u_t.unsqueeze(1), state=state)
        return y.squeeze(1), state

    def _padding(self, x: Tensor) -> Tensor:
        """What the convolution returns for the padding steps, ``(P, H)``.  It is the same for all sequences.

        The inputs are zeros, so the convolution's state after them is zeros, as at the beginning.  This calls
        the operator, not the module, because a module is called once in each pass.
        """
        zeros, conv = x.new_zeros(self.padding_steps, self.d_inner), self.conv1d
        y, _ = causal_conv1d(zeros, conv.weight, conv.bias, silu=conv.silu)
        return y


class RecBLRLayer(nn.Module):
    """One RecBLR block, a drop-in sequence layer ``(B, T, D) -> (B, T, D)`` (Fig. 2 of arXiv 2406.12580).

    ``u = LayerNorm(Dropout(GatedRecurrentLayer(x)) + x);  out = LayerNorm(Dropout(PFFN(u)) + u)``.
    It is causal: an output depends only on its own position and on earlier ones.  As in :class:`RecBLR`, the
    gated layer has a history average by default; ``history_average=False`` gives the paper's block.

    Args: the fields of :class:`recblr.nn.LayerConfig`.  Its documentation describes each of them.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        d_model: int,
        expand: float = 2,
        d_conv: int = 4,
        dropout: float = 0.0,
        ffn_expand: float = 4,
        *,
        ffn_dropout: float = 0.0,
        padding_steps: int = 0,
        beta_epsilon: float = 0.0,
        lambda_init: LambdaInit = "uniform",
        history_average: bool = True,
    ) -> None:
        super().__init__()
        config = LayerConfig(
            d_model,
            expand,
            d_conv,
            dropout,
            ffn_expand,
            ffn_dropout=ffn_dropout,
            padding_steps=padding_steps,
            beta_epsilon=beta_epsilon,
            lambda_init=lambda_init,
            history_average=history_average,
        )
        self.recurrent = GatedRecurrentLayer(config)
        self.layer_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.ffn = PositionwiseFeedForward(d_model, config.d_ffn, ffn_dropout)
        self.ffn_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        # One module for each place, because a module is called once in each pass.
        self.dropout, self.output_dropout = Dropout(dropout), Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        *,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: LayerState | None = None,
        scale: Tensor | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, LayerState]:
        """Run over whole sequences.

        Args:
            x: ``(B, T, D)``, or packed ``(N, D)`` with ``offsets``, or a jagged nested tensor ``(B, T, D)``.
            lengths: ``(B,)`` integers for a batch padded on the right, on x's device or on the CPU.
                Positions from lengths[b] on are padding.  They are not read, the output there is zero, and
                no gradient reaches them.  Lengths on the CPU are checked, and the padding costs nothing.  In
                a compiled or exported graph, under torch.func, and on a GPU or the meta device, values are
                not checked: a length out of 0..T counts as the nearest length in this range.
            offsets: ``(S + 1,)`` for packed sequences, see :func:`recblr.scan`.
            state: the state after an earlier part of the same histories; None at the beginning.
            scale: ``(..., 1)``, padded, packed or nested as x is: a factor of the decay in each step, see
                :class:`BDLRU`; None means 1.
            return_state: also return the state after the last event of every sequence, as :meth:`with_state`
                does.

        Returns:
            The output, of x's shape; for a nested x, a nested tensor of the same structure.  With
            return_state, a tuple of the output and the state.

        Raises:
            ValueError: both lengths and offsets are given, or a shape, range or state does not fit, or a
                nested x is strided or has gaps.
        """
        y, new_state = run_packed(self._run, x, lengths, offsets, state, scale)
        return (y, new_state) if return_state else y

    def with_state(
        self,
        x: Tensor,
        *,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: LayerState | None = None,
        scale: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        """As :meth:`forward`, but also return the state after the last event of every sequence."""
        output: tuple[Tensor, LayerState]
        output = self(x, lengths=lengths, offsets=offsets, state=state, scale=scale, return_state=True)
        return output

    def step(
        self, x_t: Tensor, state: LayerState | None = None, scale: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Run one event of each sequence, at constant cost.

        x_t is ``(B, D)``.  state is None at the beginning.  scale is ``(B, 1)``, or None.  Returns the output
        ``(B, D)`` and the new state.  Raises the errors of :meth:`forward`.
        """
        factors = None if scale is None else scale.unsqueeze(1)
        y, state = self(x_t.unsqueeze(1), state=state, scale=factors, return_state=True)
        return y.squeeze(1), state

    def _run(
        self, x: Tensor, scale: Tensor | None, offsets: Tensor | None, state: LayerState | None
    ) -> tuple[Tensor, LayerState]:
        y, state = self.recurrent(x, offsets=offsets, state=state, scale=scale)
        u = self.layer_norm(self.dropout(y) + x)
        return self.ffn_norm(self.output_dropout(self.ffn(u)) + u), state
