"""Dropout as torch.nn.Dropout, with masks that all threads draw."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.ops.dropout import seeded_dropout, serves


class Dropout(nn.Dropout):
    """torch.nn.Dropout, faster where a native kernel serves.

    torch draws masks one number after another; here (seed, place) decides about each element, so that
    threads share the work, the bits do not depend on their number, and no mask is kept for backward.
    The seed comes from torch's generator: ``torch.manual_seed`` makes it repeatable.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1 or self.inplace or not serves(input):
            return F.dropout(input, self.p, self.training, self.inplace)
        seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_())
        return seeded_dropout(input, seed, self.p)
