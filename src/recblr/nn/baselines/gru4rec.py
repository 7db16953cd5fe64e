"""GRU4Rec, session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016, arXiv 1511.06939).

Item embeddings, dropout, GRU layers with dropout in between, a linear layer back to the embeddings' width,
scores by the tied embedding.  Otherwise than there, as is usual today and better for the baseline: whole
histories rather than steps in session-parallel batches, one embedding at both ends, and the run's own loss.
At the defaults, two layers of width 2 D, it has about as many parameters as RecBLR.
"""

from torch import Tensor, nn

from recblr.config.model import GRU4RecConfig
from recblr.nn.base import NextItemModel, initialise
from recblr.nn.dropout import Dropout
from recblr.nn.padding import unpack, valid_positions
from recblr.ops import check_offsets


class GRU4Rec(NextItemModel):
    """The whole model; the GRU starts as torch has it, all else as in the other models.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters; the defaults where None.
    """

    config: GRU4RecConfig

    def __init__(self, num_items: int, config: GRU4RecConfig | None = None) -> None:
        config = config or GRU4RecConfig()
        super().__init__(num_items, config)
        width, layers = round(config.expand * config.d_model), config.num_layers
        self.dropout = Dropout(config.dropout_rate)
        between = config.dropout_rate if layers > 1 else 0.0  # else torch warns that there is no between
        self.gru = nn.GRU(config.d_model, width, layers, batch_first=True, dropout=between)
        self.output = nn.Linear(width, config.d_model)
        self.apply(initialise)

    def forward(self, items: Tensor, *, offsets: Tensor) -> Tensor:
        """Hidden vectors ``(N, D)`` after every event.

        Args:
            items: packed ``(N,)`` integers.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.

        Raises:
            ValueError: items that are no integers or (on a CPU) not in the catalogue; offsets of a wrong
                shape or range.
        """
        x: Tensor = self.dropout(self.embed(items))
        check_offsets(offsets, len(x))
        if not len(x):
            return x
        lengths = offsets.diff()
        valid = valid_positions(lengths, len(lengths), int(lengths.max()))
        # Padding on the right comes after all that counts.  Not torch's PackedSequence, whose gradient on a
        # CPU fills the whole batch with zeros anew for every event of the longest history.
        states, _ = self.gru(unpack(x, valid))
        y: Tensor = self.output(states[valid])
        return y
