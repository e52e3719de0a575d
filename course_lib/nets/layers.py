"""The parts of a denoising network. Pictures are (B, C, H, W), embeddings (B, D).

TimeEmbed (Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B) · ResBlock (He et al. 2016,
with the time added as scale and shift: Dhariwal & Nichol 2021, section 3) · Attention over the
pixels (Vaswani et al. 2017) · Down, Up (change the resolution). These take (x, emb), where emb is the
time embedding, so that a network is a list of layers; only ResBlock uses it. TextBlock is a ResBlock
whose pixels then look at the words, too (CrossAttention; Rombach et al. 2022, section 3.3).
"""
import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def zero(layer: nn.Module) -> nn.Module:
    """The same layer with all weights 0: a block that ends with it adds nothing at first."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


class TimeEmbed(nn.Module):
    """A time in 0 .. 1000, (B,) -> a vector (B, dim): sines and cosines, then a small MLP."""

    def __init__(self, dim: int, waves: int = 64):
        super().__init__()
        self.waves = waves
        self.mlp = nn.Sequential(nn.Linear(waves, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        half = torch.arange(self.waves // 2, device=t.device)
        frequency = torch.exp(-math.log(10_000) * half / len(half))  # 1 down to 1/10,000
        angle = t.float()[:, None] * frequency  # (B, waves / 2)
        return self.mlp(torch.cat([angle.sin(), angle.cos()], dim=1))


class ResBlock(nn.Module):
    """x + f(x, time): two convolutions, the time between them as a scale and a shift per channel.

    dim: size of the time embedding; 0 for a block that has none, as in an auto-encoder.
    """

    def __init__(self, c_in: int, c_out: int, dim: int = 0):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(dim, 2 * c_out) if dim else None
        self.norm2 = nn.GroupNorm(8, c_out)
        self.conv2 = zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.time is not None:
            scale, shift = self.time(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Every pixel looks at every other pixel: x + softmax(q k^T / sqrt(d)) v."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = x.shape[2]
        q, k, v = rearrange(self.qkv(self.norm(x)), "b (n k d) h w -> n b k (h w) d",
                            n=3, k=self.heads)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(rearrange(y, "b k (h w) d -> b (k d) h w", h=h))


class CrossAttention(nn.Module):
    """Every pixel looks at every word: x + softmax(q k^T / sqrt(d)) v, q from pixels, k and v from words.

    words: width of the words' vectors.
    """

    def __init__(self, channels: int, words: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k, self.v = nn.Linear(words, channels), nn.Linear(words, channels)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def weights(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Which pixel looks at which word: (B, heads, H W, L); each pixel's weights sum to 1, and
        padding (mask False) gets none. x (B, channels, H, W), words (B, L, width), mask (B, L)."""
        q = rearrange(self.q(self.norm(x)), "b (k d) h w -> b k (h w) d", k=self.heads)
        k = rearrange(self.k(words), "b l (k d) -> b k d l", k=self.heads)
        scores = q @ k / math.sqrt(q.shape[-1])
        return scores.masked_fill(~mask[:, None, None, :], -math.inf).softmax(-1)

    def forward(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        v = rearrange(self.v(words), "b l (k d) -> b k l d", k=self.heads)
        y = self.weights(x, words, mask) @ v
        return x + self.out(rearrange(y, "b k (h w) d -> b (k d) h w", h=x.shape[2]))


class TextBlock(ResBlock):
    """A ResBlock, then a look at the words: words (B, L, width), mask (B, L)."""

    def __init__(self, c_in: int, c_out: int, dim: int, words: int):
        super().__init__(c_in, c_out, dim)
        self.look = CrossAttention(c_out, words)

    def forward(self, x: Tensor, emb: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        return self.look(super().forward(x, emb), words, mask)


class Down(nn.Module):
    """Half the resolution: a convolution with stride 2."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        return self.conv(x)


class Up(nn.Module):
    """Twice the resolution: repeat every pixel, then smooth with a convolution."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def picture_tower(width: int = 64) -> nn.Module:
    """Pictures (B, 3, 64, 64) -> features (B, 4 width)."""
    return nn.Sequential(
        nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1), ResBlock(width, width),
        Down(width, 2 * width), ResBlock(2 * width, 2 * width),
        Down(2 * width, 4 * width), Attention(4 * width), ResBlock(4 * width, 4 * width),
        nn.GroupNorm(8, 4 * width), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
