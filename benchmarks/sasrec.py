"""SASRec's encoder (Kang and McAuley, 2018), the peer of RecBLR's, as fast as torch makes it on a CPU.

Learned positions, and blocks of causal attention by torch's scaled_dot_product_attention and a feed-forward
network.  Without dropout, with which torch's attention falls back to one that holds all T×T weights.
"""

import torch
import torch.nn.functional as F
from torch import nn

HEADS = 2


class Block(nn.Module):
    """Attention and feed-forward network, each with residual and normalisation."""

    def __init__(self, width, inner):
        super().__init__()
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.w_1, self.w_2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = self.norm(x + self.output(attended))
        return self.ffn_norm(x + self.w_2(F.relu(self.w_1(x))))


class SASRec(nn.Module):
    """(B, T, width) -> (B, T, width); inner is the width of the feed-forward networks."""

    def __init__(self, steps, width, inner, depth):
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(steps, width))
        self.blocks = nn.Sequential(*(Block(width, inner) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(x + self.positions)
