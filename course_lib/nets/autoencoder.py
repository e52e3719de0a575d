"""Auto-encoders: a picture becomes a small latent, and comes back.

A *codec* has `encode(x)` and `decode(z)`: pictures (B, 3, 64, 64) in [-1, 1] to latents (B, C, 8, 8) of
about unit variance, and back. Diffusion runs on z and never sees which codec made it.

| codec | latent | source |
|---|---|---|
| Pixels        | the picture itself | - |
| KLAutoencoder | 8 x 8 vectors, held near N(0, I) | Kingma & Welling 2014, eq. 10; Rombach et al. 2022 |
| VQAutoencoder | 8 x 8 tokens | van den Oord et al. 2017; rounded as in Mentzer et al. 2023 (FSQ) |
"""
import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from .. import checks
from .layers import Attention, Down, ResBlock, Up

SIZE, LATENT = 64, 8  # edges of picture and latent


class Decoder(Protocol):
    """What a system needs to draw."""

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> pictures (B, 3, H, W), not clipped."""


class Codec(Decoder, Protocol):
    """What diffusion needs to know about a latent space."""

    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) of about unit variance."""


class Pixels:
    """The codec that does nothing: diffusion on pictures."""

    def encode(self, x: Tensor) -> Tensor:
        """The pictures."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """The pictures."""
        return z


class Parallel(nn.Module):
    """Paths side by side: what they give is added."""

    def __init__(self, *paths: nn.Module):
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        return sum(path(x) for path in self.paths)


def encoder(c_out: int, fine: int = 64, coarse: int = 128) -> nn.Module:
    """(B, 3, 64, 64) -> (B, c_out, 8, 8). 4 x 4 pixels become channels, so the work is done at 16 x 16
    (`fine` channels) and 8 x 8 (`coarse`). A straight, linear path runs beside it: alone it would
    learn what a principal component analysis of 8 x 8 squares finds, and it learns that at once."""
    return Parallel(nn.Conv2d(3, c_out, 8, stride=8), nn.Sequential(
        nn.PixelUnshuffle(4), nn.Conv2d(48, fine, 3, padding=1), ResBlock(fine, fine), ResBlock(fine, fine),
        Down(fine, coarse), ResBlock(coarse, coarse), Attention(coarse), ResBlock(coarse, coarse),
        nn.GroupNorm(8, coarse), nn.SiLU(), nn.Conv2d(coarse, c_out, 3, padding=1)))


def local_encoder(c_out: int, fine: int = 64, coarse: int = 128) -> nn.Module:
    """(B, 3, 64, 64) -> (B, c_out, 8, 8), each cell from the 24 x 24 pixels around it alone. An encoder that
    sees the whole picture spreads what it finds over all cells, white ones too: good for a copy, but such a
    cell is hard to guess from those before it. Fewer layers than `encoder`, with twice the channels; beyond
    the picture's edge its outermost pixels go on."""
    fine, coarse = 2 * fine, 2 * coarse
    same = partial(nn.Conv2d, padding=1, padding_mode="replicate")
    return Parallel(nn.Conv2d(3, c_out, 8, stride=8), nn.Sequential(
        nn.PixelUnshuffle(4), same(48, fine, 3), nn.SiLU(), same(fine, coarse, 4, stride=2), nn.SiLU(),
        nn.Conv2d(coarse, coarse, 1), nn.SiLU(), nn.Conv2d(coarse, c_out, 1)))


def decoder(c_in: int, fine: int = 64, coarse: int = 128) -> nn.Module:
    """(B, c_in, 8, 8) -> (B, 3, 64, 64): the encoder backwards."""
    return Parallel(nn.Sequential(nn.Conv2d(c_in, 192, 1), nn.PixelShuffle(8)), nn.Sequential(
        nn.Conv2d(c_in, coarse, 3, padding=1), ResBlock(coarse, coarse), Attention(coarse),
        ResBlock(coarse, coarse), Up(coarse, fine), ResBlock(fine, fine), ResBlock(fine, fine),
        nn.GroupNorm(8, fine), nn.SiLU(), nn.Conv2d(fine, 48, 3, padding=1), nn.PixelShuffle(4)))


@checks.typed
def kl_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, e^logvar) || N(0, I)) of each sample in nats: (B, ...) -> (B,), summed over the rest."""
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)


@checks.typed
class KLAutoencoder(nn.Module):
    """An auto-encoder whose latent is a little Gaussian cloud for every picture.

    beta = 0: a plain auto-encoder. beta > 0: a variational one; the loss is 2 v / D times the
    negative bound of a VAE whose decoder has variance v = beta / 2 per number, D numbers a picture,

        loss = mean squared error + beta * KL / D.

    Small beta (0.004) is the kind that Stable Diffusion uses, large beta (10) a classic VAE.
    encode and decode scale every channel to mean 0 and variance 1, which diffusion expects.
    """

    def __init__(self, channels: int = 8, beta: float = 0.004, fine: int = 64, coarse: int = 128):
        super().__init__()
        checks.counts(channels=channels)
        checks.channels(fine=fine, coarse=coarse)
        self.channels, self.beta = channels, checks.number(beta, 0, what="beta")
        self.encoder = encoder(2 * channels, fine, coarse)
        self.decoder = decoder(channels, fine, coarse)
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("var", torch.ones(channels, 1, 1))

    @checks.typed
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures -> mean and log variance of their clouds, each (B, channels, 8, 8), unscaled."""
        checks.pictures(x, SIZE)
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar.clamp(-20, 10)

    @checks.typed
    def loss(self, x: Tensor) -> Tensor:
        """The loss above, (). In training mode it also follows the latents' mean and variance."""
        mu, logvar = self.posterior(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu) if self.beta else mu
        if self.training:
            self._follow(mu.detach().float())  # also under bfloat16
        error = ((self.decoder(z) - x) ** 2).mean()
        return error + self.beta * kl_standard_normal(mu, logvar).mean() / x[0].numel()

    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, 64, 64) -> scaled latents (B, channels, 8, 8): the clouds' means."""
        return (self.posterior(x)[0] - self.mean) / self.var.sqrt()

    @checks.typed
    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents (B, channels, 8, 8) -> pictures (B, 3, 64, 64), not clipped."""
        check_latents(z, self.channels)
        return self.decoder(z * self.var.sqrt() + self.mean)

    @torch.no_grad()
    def _follow(self, mu: Tensor) -> None:
        var, mean = torch.var_mean(mu, dim=(0, 2, 3), keepdim=True)
        self.mean.lerp_(mean[0], 0.01)
        self.var.lerp_(var[0] + (mean[0] - self.mean) ** 2, 0.01)


@checks.typed
class VQAutoencoder(nn.Module):
    """An auto-encoder whose latent is a grid of 8 x 8 cells with `codes` tokens each, of 7 * 5 * 5 * 5 = 875.

    A token stands for four numbers; tanh bounds them and rounding leaves 7 or 5 values of each
    (finite scalar quantisation, Mentzer et al. 2023): the codebook is a fixed grid, so no code can die.
    Rounding has no gradient; the straight-through estimator takes it as the identity. With several codes the
    numbers of a cell are cut into groups of four (product quantisation, Jegou et al. 2011), and its tokens
    stand side by side: (B, 8, 8 codes). local: each cell is read from the pixels around it alone.
    """
    levels = (7, 5, 5, 5)

    def __init__(self, fine: int = 64, coarse: int = 128, codes: int = 1, local: bool = False):
        super().__init__()
        checks.channels(fine=fine, coarse=coarse)
        self.codes = checks.whole(codes, 1, what="codes")
        self.channels = codes * len(self.levels)
        self.encoder = (local_encoder if local else encoder)(self.channels, fine, coarse)
        self.decoder = decoder(self.channels, fine, coarse)
        reach = torch.tensor([(n - 1) / 2 for n in self.levels] * codes)
        self.register_buffer("reach", reach[:, None, None], persistent=False)

    @property
    def codebook_size(self) -> int:
        """How many different tokens there are."""
        return math.prod(self.levels)

    @checks.typed
    def loss(self, x: Tensor) -> Tensor:
        """Mean of ln(squared error of each picture that comes back), (): times -10 / ln 10 it is the mean
        PSNR but for a constant, the very figure that we report. An error of 0 would give -inf."""
        return ((self.decode(self.encode(x)) - x) ** 2).mean((1, 2, 3)).log().mean()

    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, 64, 64) -> quantised latents (B, 4 codes, 8, 8) in [-1, 1]."""
        checks.pictures(x, SIZE)
        return self.quantize(torch.tanh(self.encoder(x)))

    @checks.typed
    def quantize(self, z: Tensor) -> Tensor:
        """Latents (B, 4 codes, 8, 8) -> the nearest quantised ones; the gradient is that of the identity."""
        nearest = (z.clamp(-1, 1) * self.reach).round() / self.reach
        return z + (nearest - z).detach()

    @checks.typed
    def decode(self, z: Tensor) -> Tensor:
        """Quantised latents (B, 4 codes, 8, 8) -> pictures (B, 3, 64, 64), not clipped."""
        check_latents(z, self.channels)
        return self.decoder(z)

    @checks.typed
    def encode_tokens(self, x: Tensor, search: int = 0) -> Tensor:
        """Pictures (B, 3, 64, 64) -> tokens (B, 8, 8 codes), int64 in 0 .. codebook_size - 1.

        search: so many steps of `optimize_latents` look for better tokens than the encoder's; whoever decodes
        them need not know.
        """
        checks.whole(search, 0, what="search")
        z = optimize_latents(self, x, search, quantize=self.quantize) if search else self.encode(x)
        return self.pack(z)

    @checks.typed
    def pack(self, z: Tensor) -> Tensor:
        """Quantised latents (B, 4 codes, 8, 8) -> their tokens (B, 8, 8 codes)."""
        check_latents(z, self.channels)
        digits = ((z.clamp(-1, 1) + 1) * self.reach).round().long()  # each 0 .. level - 1
        digits = rearrange(digits, "b (k d) h w -> d b h (w k)", k=self.codes)
        ids = torch.zeros_like(digits[0])
        for digit, n in zip(digits, self.levels, strict=True):
            ids = ids * n + digit
        return ids

    @checks.typed
    def decode_tokens(self, ids: Tensor) -> Tensor:
        """Tokens (B, 8, 8 codes) -> pictures (B, 3, 64, 64), not clipped."""
        edges = (LATENT, LATENT * self.codes)
        if ids.shape[1:] != edges or not ids.numel() or ids.dtype != torch.long or not (
                (ids >= 0) & (ids < self.codebook_size)).all():
            raise ValueError(f"tokens are whole numbers (B, {edges[0]}, {edges[1]}) in 0 .. "
                             f"{self.codebook_size - 1}, given {checks.kind(ids)}"
                             f"{f' {ids.min()} .. {ids.max()}' if ids.numel() else ''}")
        digits = []
        for n in reversed(self.levels):
            digits.append(ids % n)
            ids = ids // n
        digits = rearrange(torch.stack(digits[::-1]), "d b h (w k) -> b (k d) h w", k=self.codes)
        return self.decode(digits / self.reach - 1)


@checks.typed
@torch.inference_mode(False)  # it needs gradients, wherever it is called
def optimize_latents(codec: Codec, x: Tensor, steps: int = 50, lr: float = 0.05,
                     quantize: Callable[[Tensor], Tensor] = lambda z: z) -> Tensor:
    """Latents of pictures x that decode to something nearer to x than `codec.encode(x)` does.

    An encoder guesses the latent in one pass. Here Adam moves that guess down the gradient of the
    squared error, each picture's on its own, while the codec's weights stay: the decoder alone
    decides which latent is best. `quantize` keeps the latents legal where they are tokens: `vq.quantize`.
    Returns the best latents on the way, never worse than the guess. What is gained is called the
    amortisation gap (Cremer et al. 2018; Kim et al. 2018 train with such steps).
    """
    checks.whole(steps, 0, what="steps")
    checks.number(lr, 0, what="lr")
    x = x.clone()  # one that was made in inference mode cannot take part in a gradient
    best = codec.encode(x).detach()
    z, least = best.clone().requires_grad_(), torch.full((len(x), 1, 1, 1), math.inf, device=x.device)
    optimizer = torch.optim.Adam([z], lr)
    for _ in range(steps + 1):
        with torch.enable_grad():
            legal = quantize(z)
            error = ((codec.decode(legal) - x) ** 2).mean((1, 2, 3), keepdim=True)
            z.grad, = torch.autograd.grad(error.sum(), z)
        better = error < least
        best, least = torch.where(better, legal, best).detach(), torch.minimum(error, least).detach()
        optimizer.step()
    return best


def check_latents(z: Tensor, channels: int) -> None:
    """Raise ValueError unless z is (B, channels, 8, 8) and finite."""
    if z.ndim != 4 or z.shape[1:] != (channels, LATENT, LATENT):
        raise ValueError(f"expected latents (B, {channels}, {LATENT}, {LATENT}), given {tuple(z.shape)}")
    checks.finite(z, "latents")
