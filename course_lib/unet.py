"""The U-Net: the picture goes down to low resolution and up again, with shortcuts across.

Ronneberger et al. 2015, as used for diffusion by Ho et al. 2020 (appendix B). `patch` folds
patch x patch pixels into channels first (space-to-depth): 4 or 16 times fewer positions, and so
4 or 16 times fewer operations in every layer.
"""
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Attention, Down, ResBlock, TimeEmbed, Up


class UNet(nn.Module):
    """net(x, t): x (B, channels, H, W), t (B,) in 0 .. 1000 -> (B, channels, H, W).

    widths: channels at each resolution, from fine to coarse. blocks: ResBlocks per resolution.
    patch: edge of the square of pixels that is folded into channels. H and W must be multiples
    of patch * 2^(len(widths) - 1).
    """

    def __init__(self, widths=(32, 64), blocks: int = 1, patch: int = 1, channels: int = 3):
        super().__init__()
        self.patch, self.multiple = patch, patch * 2 ** (len(widths) - 1)
        c, dim = channels * patch**2, 4 * widths[0]
        self.time = TimeEmbed(dim)
        self.first = nn.Conv2d(c, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        here, skips = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            if level > 0:
                self.down.append(Down(here, width))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(ResBlock(width, width, dim))
                skips.append(width)
            here = width
        self.middle = nn.ModuleList([ResBlock(here, here, dim), Attention(here), ResBlock(here, here, dim)])
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(ResBlock(here + skips.pop(), width, dim))
                here = width
            if level > 0:
                self.up.append(Up(here, here))
        self.last = nn.Sequential(nn.GroupNorm(8, here), nn.SiLU(), nn.Conv2d(here, c, 3, padding=1))
        nn.init.zeros_(self.last[-1].weight)  # an untrained network predicts 0
        nn.init.zeros_(self.last[-1].bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if x.shape[-1] % self.multiple or x.shape[-2] % self.multiple:
            raise ValueError(f"height and width must be multiples of {self.multiple}, "
                             f"got {tuple(x.shape)}")
        emb = self.time(t)
        x = self.first(rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=self.patch, q=self.patch))
        skips = [x]
        for layer in self.down:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        for layer in self.up:
            x = layer(torch.cat([x, skips.pop()], 1), emb) if isinstance(layer, ResBlock) else layer(x)
        return F.pixel_shuffle(self.last(x), self.patch)
