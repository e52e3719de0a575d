"""Stable Diffusion (Rombach et al. 2022): a text encoder turns the prompt into one vector a word, a denoiser
that reads them makes a latent out of noise, and a decoder makes the latent a picture."""
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..denoiser import Denoiser
from ..guidance import guide
from ..nets.autoencoder import LATENT, Decoder
from ..samplers import Step, dpmpp_2m, draw
from .prompts import TextEncoder, TextToPicture, seeded


@checks.typed
@dataclass
class StableDiffusion(TextToPicture):
    """Text -> pictures, in three parts."""
    text_encoder: TextEncoder
    denoiser: Denoiser
    decoder: Decoder
    shape: tuple[int, ...] = (8, LATENT, LATENT)  # of a latent

    @checks.typed
    def guided(self, texts: list[str], w: float | Callable = 3.0, negative: str | list[str] | None = None,
               rescale: float = 0.0):
        """The denoiser under guidance: (z_t, t) -> Pred. w = 1 follows the text alone, w = 0 only
        `negative`, the text to stay away from; by default the empty one. w and rescale as in `guide`."""
        return guide(self.denoiser, *self.told(texts, negative), w, rescale)

    @checks.typed
    @torch.no_grad()
    def intermediate(self, texts: list[str], steps: int = 20, w: float | Callable = 3.0, seed: int = 0, *,
                     negative: str | list[str] | None = None, rescale: float = 0.0,
                     step: Step | None = None) -> Tensor:
        """The latents that `generate` decodes, (len(texts), *shape)."""
        denoise = self.guided(texts, w, negative, rescale)
        with seeded(seed):
            return draw(denoise, denoise.schedule, self.start(len(texts), seed), steps, step or dpmpp_2m())

    @checks.typed
    @torch.no_grad()
    def generate(self, texts: list[str], steps: int = 20, w: float | Callable = 3.0, seed: int = 0, *,
                 negative: str | list[str] | None = None, rescale: float = 0.0,
                 step: Step | None = None) -> Tensor:
        """Prompts -> pictures (len(texts), 3, H, W) in [-1, 1], here 64 x 64.

        step: the sampler's rule, DPM-Solver++ unless given; `ddpm` in 40 steps is slower and a little better.
        The seed decides everything, unless the step has a generator of its own.
        The empty prompt is a valid one. An emoji is read as its name: "noto 🍎" is "noto red apple". Words
        and signs that the text encoder does not know, in whatever script, and words beyond its length do
        not count; a warning names them.
        """
        z = self.intermediate(texts, steps, w, seed, negative=negative, rescale=rescale, step=step)
        return self.decoder.decode(z).clamp(-1, 1)
