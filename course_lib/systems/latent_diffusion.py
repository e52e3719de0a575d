"""Latent diffusion without a text (Rombach et al. 2022, section 3): a denoiser makes a latent out of noise,
and a decoder makes the latent a picture.

The denoiser may have learned classes: then a class is drawn first, as often as it occurs, and a picture of it
next; p(z) = sum over c of p(c) p(z | c) is still a sample of everything.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..denoiser import Denoiser
from ..guidance import autoguide, told
from ..nets.autoencoder import LATENT, Decoder
from ..rng import normal, of_seed
from ..samplers import Step, dpmpp_2m, draw
from .prompts import System, seeded


@checks.typed
@dataclass
class LatentDiffusion(System):
    """Noise -> pictures. share (K,): how often each class is to be drawn, or None. weaker: a weaker denoiser
    of the same latents, for `autoguide`."""
    denoiser: Denoiser
    decoder: Decoder
    share: Tensor | None = None
    weaker: Denoiser | None = None
    shape: tuple[int, ...] = (8, LATENT, LATENT)  # of a latent

    @checks.typed
    def __post_init__(self):
        if self.share is not None:
            checks.weights(self.share, self.share.numel(), "share")

    def labels(self, n: int, seed: int = 0) -> Tensor | None:
        """n classes, drawn by their shares, (n,); the same for the same seed. None where there are none."""
        if self.share is None:
            return None
        g = of_seed(seed)
        normal((checks.whole(n, 1, what="n"), *self.shape), g)  # the start comes first
        return torch.multinomial(self.share.cpu().float(), n, replacement=True, generator=g).to(self.device)

    @checks.typed
    def guided(self, label: Tensor | Sequence[int] | None = None, w: float = 1.0):
        """The denoiser told the label (B,), led away from `weaker` with scale w; w = 1 is none."""
        checks.number(w, -torch.inf, what="w, the guidance scale,")
        cond = {} if label is None else {"label": torch.as_tensor(label, device=self.device)}
        if w == 1:
            return told(self.denoiser, **cond)
        if self.weaker is None:
            raise ValueError('w other than 1 leads away from a weaker model: replace(system, weaker='
                             'recipes.load("ldm64_weak").denoiser)')
        return autoguide(self.denoiser, self.weaker, w, **cond)

    @checks.typed
    @torch.no_grad()
    def generate(self, n: int, steps: int = 20, w: float = 1.0, seed: int = 0, *,
                 label: Tensor | Sequence[int] | None = None, step: Step | None = None) -> Tensor:
        """n pictures (n, 3, H, W) in [-1, 1], here 64 x 64.

        label: classes (n,), drawn by their shares if not given. step: the sampler's rule, DPM-Solver++ unless
        given. The seed decides everything, unless the step has a generator of its own.
        """
        x = self.start(n, seed)
        denoise = self.guided(self.labels(n, seed) if label is None else label, w)
        with seeded(seed):
            z = draw(denoise, denoise.schedule, x, steps, step or dpmpp_2m())
        return self.decoder.decode(z).clamp(-1, 1)
