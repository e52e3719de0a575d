"""The transformer (Vaswani et al. 2017), pre-norm: every token looks at every other, then thinks alone.

    x <- x + attention(norm(x)),    x <- x + mlp(norm(x))

Text encoders use it in both directions, the small DALL-E only backwards in time (causal).
"""
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .. import checks


class Block(nn.Module):
    """One layer: tokens (B, N, width) -> (B, N, width). dropout: the share of what it adds that is left out
    in training."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm1(x)), "b n (s h d) -> s b h n d", s=3, h=self.heads)
        keep = None if mask is None else mask[:, None, None, :]  # no token looks at padding
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        return self._think(x, y)

    def _think(self, x: Tensor, y: Tensor) -> Tensor:
        """Add what was looked up, y (B, heads, N, d), and what follows from it for each token alone."""
        x = x + self.drop(self.out(rearrange(y, "b h n d -> b n (h d)")))
        return x + self.drop(self.mlp(self.norm2(x)))


class Cache:
    """The keys and values that a causal layer has computed: new tokens do not change those of earlier ones.
    """
    k: Tensor | None = None
    v: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, N, d) of all tokens, the new ones last."""
        if self.k is not None:
            k, v = torch.cat([self.k, k], dim=2), torch.cat([self.v, v], dim=2)
        self.k, self.v = k, v
        return k, v


class CausalBlock(Block):
    """A layer whose tokens see themselves and what came before. cache: what it remembers of earlier ones."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm1(x)), "b n (s h d) -> s b h n d", s=3, h=self.heads)
        if cache is not None:
            k, v = cache.extend(k, v)
        return self._think(x, looks_back(q, k) @ v)


def looks_back(q: Tensor, k: Tensor) -> Tensor:
    """How much each query (B, heads, M, d) looks at each key (B, heads, N, d), (B, heads, M, N): rows that
    sum to 1. The queries are those of the last M of the N tokens, and none looks ahead."""
    far = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    ahead = far.triu(1 + k.shape[2] - q.shape[2])
    look = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).masked_fill(ahead, -torch.inf)
    return look.softmax(3).to(k.dtype)


@checks.typed
class Transformer(nn.Module):
    """Tokens (B, N, width) -> (B, N, width), normalised at the end.

    mask (B, N): True for tokens, False for padding, with at least one True a row. A causal one
    (each token sees itself and what came before) takes no mask: its padding comes last. memory: a Cache for
    each block of a causal one, to go on token by token.
    """

    def __init__(self, width: int, depth: int, heads: int = 4, causal: bool = False, dropout: float = 0.0):
        super().__init__()
        checks.counts(width=width, heads=heads)
        checks.number(dropout, 0, 1, "dropout")
        if checks.whole(depth, 0, what="depth") and width % heads:
            raise ValueError(f"width must be a multiple of heads, given {width} and {heads}")
        make = CausalBlock if causal else Block
        self.causal, self.blocks = causal, nn.ModuleList(make(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    @checks.typed
    def forward(self, x: Tensor, mask: Tensor | None = None, memory: list[Cache] | None = None) -> Tensor:
        checks.floats(x, "x")
        if mask is not None and (mask.shape != x.shape[:2] or mask.dtype != torch.bool or not (
                checks.capturing() or mask.any(1).all())):
            raise ValueError("the mask must be True on tokens, with a True in every row (a softmax over "
                             f"padding alone is NaN); given {checks.kind(mask)}")
        if (mask if self.causal else memory) is not None:
            raise ValueError("a causal transformer takes no mask, and only a causal one has a memory")
        for block, told in zip(self.blocks, memory or [mask] * len(self.blocks), strict=True):
            x = block(x, told)
        return self.norm(x)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the tokens that are no padding: (B, N, width), (B, N) -> (B, width)."""
    weight = mask.to(x)[:, :, None]
    return (x * weight).sum(1) / weight.sum(1)


def positions(n: int, width: int) -> nn.Parameter:
    """A learned vector for each of n places, small at the start: (n, width)."""
    return nn.Parameter(0.02 * torch.randn(n, width))
