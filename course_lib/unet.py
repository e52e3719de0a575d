"""The U-Net: the picture goes down to low resolution and up again, with shortcuts across.

Ronneberger et al. 2015, as used for diffusion by Ho et al. 2020 (appendix B). `patch` folds
patch x patch pixels into channels first (space-to-depth): 4 or 16 times fewer positions, and so
4 or 16 times fewer operations in every layer.
"""
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Attention, Down, ResBlock, TextBlock, TimeEmbed, Up, zero
from .transformer import masked_mean


class UNet(nn.Module):
    """net(x, t): x (B, channels, H, W), t (B,) in 0 .. 1000 -> (B, channels, H, W).

    widths: channels at each resolution, from fine to coarse. blocks: ResBlocks per resolution.
    patch: edge of the square of pixels that is folded into channels. H and W must be multiples
    of patch * 2^(len(widths) - 1). An untrained network predicts 0.

    cond_ch > 0: a super-resolution network (Ho et al. 2022, cascaded diffusion). It also sees a small
    picture low_res (B, cond_ch, H / patch, W / patch), laid beside the folded x, and how much
    noise was put on it, aug_level (B,) in 0 .. 1.

    text > 0: a network that reads. text (B, L, text) holds one vector a word, mask (B, L) is True for words
    and False for padding. Their mean joins the time embedding: what the picture is about. After every
    ResBlock each position looks at the words themselves: which word concerns it (Rombach et al. 2022).

    groups > 0: a network that is told which of so many groups the picture belongs to, label (B,) in
    0 .. groups - 1; the number `groups`, or no label at all, says nothing. Each group has a learned vector
    that joins the time embedding. `share`: how often each group occurs, (groups,), kept with the weights.
    """

    def __init__(self, widths=(32, 64), blocks: int = 1, patch: int = 1, channels: int = 3,
                 cond_ch: int = 0, text: int = 0, groups: int = 0):
        super().__init__()
        self.patch, self.multiple = patch, patch * 2 ** (len(widths) - 1)
        self.cond_ch, self.text, self.groups = cond_ch, text, groups
        c, here, dim = channels * patch**2, widths[0], 4 * widths[0]
        self.time = TimeEmbed(dim)
        self.level = TimeEmbed(dim) if cond_ch else None
        self.topic = nn.Linear(text, dim) if text else None
        if groups:
            self.table, self.label = nn.Embedding(groups + 1, 64), zero(nn.Linear(64, dim))
            self.register_buffer("share", torch.full((groups,), 1 / groups))
        block = partial(TextBlock, text=text) if text else ResBlock
        self.first = nn.Conv2d(c + cond_ch, here, 3, padding=1)
        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [here]
        for level, width in enumerate(widths):
            if level > 0:
                self.down.append(Down(here, width))
            self.down.extend(block(width, width, dim) for _ in range(blocks))
            skips += [width] * (blocks + (level > 0))
            here = width
        self.middle = nn.ModuleList([block(here, here, dim), Attention(here), block(here, here, dim)])
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(block(here + skips.pop(), width, dim))
                here = width
            if level > 0:
                self.up.append(Up(here, here))
        self.last = nn.Sequential(nn.GroupNorm(8, here), nn.SiLU(), zero(nn.Conv2d(here, c, 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor, low_res: Tensor | None = None,
                aug_level: Tensor | None = None, text: Tensor | None = None,
                mask: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        if x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(f"H and W must be multiples of {self.multiple}: {tuple(x.shape)}")
        emb = self.time(t)
        x = F.pixel_unshuffle(x, self.patch)
        if self.cond_ch:
            self._check(x, low_res, aug_level)
            emb = emb + self.level(1000 * aug_level)
            x = torch.cat([x, low_res], dim=1)
        if self.groups:
            emb = emb + self.label(self.table(self._checked(label, x)))
        if self.text:
            self._check_text(x, text, mask)
            emb = emb + self.topic(masked_mean(text, mask))
            emb = emb, text, mask  # what a TextBlock sees; the other layers ignore it
        x = self.first(x)
        skips = [x]
        for layer in self.down:
            x = layer(x, emb)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, emb)
        for layer in self.up:
            if isinstance(layer, ResBlock):
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x, emb)
        return F.pixel_shuffle(self.last(x), self.patch)

    def _check(self, x, low_res, aug_level):
        expected = (len(x), self.cond_ch, *x.shape[2:])
        if low_res is None or low_res.shape != expected:
            given = None if low_res is None else tuple(low_res.shape)
            raise ValueError(f"low_res must be {expected}, given {given}")
        if aug_level is None or aug_level.shape != (len(x),):
            raise ValueError(f"aug_level must be ({len(x)},), the noise on each small picture in 0 .. 1")

    def _checked(self, label, x):
        label = torch.full((len(x),), self.groups, device=x.device) if label is None else label
        if (label.shape != (len(x),) or label.dtype != torch.long
                or not 0 <= label.min() <= label.max() <= self.groups):
            raise ValueError(f"label must be {len(x)} whole numbers in 0 .. {self.groups} (no group), "
                             f"given {label.dtype} {tuple(label.shape)} in [{label.min()}, {label.max()}]")
        return label

    def _check_text(self, x, text, mask):
        if text is None or text.ndim != 3 or (len(text), text.shape[2]) != (len(x), self.text):
            given = None if text is None else tuple(text.shape)
            raise ValueError(f"text must be ({len(x)}, L, {self.text}), one vector a word, given {given}")
        if (mask is None or mask.dtype != torch.bool or mask.shape != text.shape[:2]
                or not mask.any(1).all()):
            raise ValueError(f"mask must be {tuple(text.shape[:2])} of True (word) and False (padding), "
                             "with a True in every row: the empty text has its start token")


class Blind(nn.Module):
    """A network that is told t = 0, whatever the time."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x, t):
        return self.net(x, torch.zeros_like(t))


class Regression(nn.Module):
    """Small pictures (B, 3, 16, 16) -> the mean of all 64 px pictures that they can come from.

    A super-resolution network without noise on its input: it sees zeros instead of x_t.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, low_res):
        b, c, h, w = low_res.shape
        zeros = low_res.new_zeros(b)
        return self.net(low_res.new_zeros(b, c, h * self.net.patch, w * self.net.patch), zeros,
                        low_res=low_res, aug_level=zeros)
