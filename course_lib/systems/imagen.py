"""Imagen (Saharia et al. 2022): a text encoder that never saw a picture, a denoiser that makes a small
picture of the text, and an enlarger, a denoiser too, that is told the small picture and the text again."""
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..denoiser import Denoiser
from ..guidance import augment, dynamic_threshold, guide
from ..samplers import Step, dpmpp_2m, draw
from .prompts import TextEncoder, TextToPicture, seeded


@checks.typed
@dataclass
class Imagen(TextToPicture):
    """Text -> small pictures -> pictures."""
    text_encoder: TextEncoder
    denoiser: Denoiser
    enlarger: Denoiser
    shape: tuple[int, ...] = (3, 16, 16)  # of a small picture
    large: tuple[int, ...] = (3, 64, 64)

    @checks.typed
    @torch.no_grad()
    def intermediate(self, texts: list[str], steps: int = 20, w: float = 3.0, seed: int = 0, *,
                     threshold=dynamic_threshold, step: Step | None = None) -> Tensor:
        """The small pictures that `generate` enlarges, (len(texts), 3, 16, 16) in [-1, 1]. threshold: how the
        predictions are held within the range, `dynamic_threshold`, `clip_x0`, or None for not at all."""
        denoise = guide(self.denoiser, *self.told(texts), w)
        denoise = threshold(denoise) if threshold else denoise
        with seeded(seed):
            x = draw(denoise, denoise.schedule, self.start(len(texts), seed), steps, step or dpmpp_2m())
        return x.clamp(-1, 1)

    @checks.typed
    @torch.no_grad()
    def enlarge(self, small: Tensor, texts: list[str], steps: int = 20, w: float = 1.0, seed: int = 0, *,
                level: float = 0.1, step: Step | None = None) -> Tensor:
        """Small pictures (B, 3, 16, 16) in [-1, 1] and their texts -> (B, 3, 64, 64). level: the share of
        noise that is laid on the small pictures first, and that the enlarger is told; 0 is none."""
        told = torch.full((len(small),), checks.number(level, 0, 1, "level"), device=self.device)
        schedule, shape = self.enlarger.schedule, (len(small), *self.large)
        with seeded(seed):
            beside = {"low_res": augment(small.to(self.device), told), "aug_level": told}
            cond, null = (part | beside for part in self.told(texts))
            x = schedule.start(shape, device=self.device)
            x = draw(guide(self.enlarger, cond, null, w), schedule, x, steps, step or dpmpp_2m())
        return x.clamp(-1, 1)

    @checks.typed
    def generate(self, texts: list[str], steps: int = 20, w: float = 3.0, seed: int = 0, *,
                 level: float = 0.1, large_w: float = 1.0, **how) -> Tensor:
        """Prompts -> pictures (len(texts), 3, 64, 64) in [-1, 1]. w, large_w: guidance of the two stages.
        level: as in `enlarge`. how: what `intermediate` takes. The seed decides everything."""
        small = self.intermediate(texts, steps, w, seed, **how)
        return self.enlarge(small, texts, steps, large_w, seed, level=level)
