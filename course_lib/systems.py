"""Whole systems, put together from parts that were trained separately.

StableDiffusion (Rombach et al. 2022): a text encoder turns the prompt into one vector a word, a denoiser
that reads them makes a latent out of noise, and a decoder makes the latent a picture. `captioned` gives
the batches that the denoiser learns from.
"""
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .autoencoder import GRID, Codec
from .clip import statements
from .data import Emoji
from .denoiser import Denoiser, drop, guide
from .samplers import Step, dpmpp_2m, sample


class Reader(Protocol):
    """What a system needs to know about a text encoder."""

    def words(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Texts -> one vector a word (B, L, width), and True where there is a word (B, L). The empty
        text has at least one."""

    def unread(self, text: str) -> list[str]:
        """The words that are lost on the encoder."""


@torch.no_grad()
def read(encoder: Reader, texts: list[str], batch: int = 512) -> tuple[Tensor, Tensor]:
    """`encoder.words` of many texts, a batch at a time."""
    parts = [encoder.words(texts[i:i + batch]) for i in range(0, len(texts), batch)]
    return torch.cat([words for words, _ in parts]), torch.cat([mask for _, mask in parts])


def captioned(emoji: Emoji, z: Tensor, encoder: Reader, n: int, device=None, p: float = 0.1,
              texts=lambda row: [row["caption"]] * 4 + statements(row)[1:], seed: int = 0):
    """Endless batches (latents (n, ...), words (n, L, width), mask (n, L)), where z are the latents of
    `emoji`'s pictures in their order.

    Every picture comes with one of its true texts, texts(row); by default half of them are the caption.
    With probability p it is the empty text instead, which teaches the same network the pictures as such,
    for guidance (Ho & Salimans 2022). Each text is read once, before the first batch.
    """
    said = [texts(row) for row in emoji.table]
    every = ["", *sorted({text for row in said for text in row})]
    number = {text: i for i, text in enumerate(every)}
    words, mask = (part.to(device) for part in read(encoder, every))
    z, rng = z.to(device), random.Random(seed)
    for i in emoji.draws(n):
        chosen = torch.tensor([number[rng.choice(said[k])] for k in i.tolist()])
        j = drop(chosen, torch.tensor(0), p).to(z.device)
        yield z[i.to(z.device)], words[j], mask[j]


@dataclass
class StableDiffusion:
    """Text -> pictures. Each part can be exchanged: `replace(system, decoder=other)`, from dataclasses."""
    text_encoder: Reader
    denoiser: Denoiser
    decoder: Codec
    shape: tuple[int, ...] = (8, GRID, GRID)  # of a latent

    def cond(self, texts: list[str]) -> dict[str, Tensor]:
        """What the denoiser is told about the texts; [""] is what it was told without one."""
        words, mask = read(self.text_encoder, texts)
        device = next(self.denoiser.parameters()).device
        return {"text": words.to(device), "mask": mask.to(device)}

    def guided(self, texts: list[str], w: float | Callable = 3.0, negative: str = "", rescale: float = 0.0):
        """The denoiser under guidance: (z_t, t) -> Pred. w = 1 follows the text alone, w = 0 only
        `negative`, the text to stay away from; by default the empty one. w and rescale as in `guide`."""
        return guide(self.denoiser, self.cond(texts), self.cond([negative] * len(texts)), w, rescale)

    def noise(self, n: int, seed: int = 0) -> Tensor:
        """The start of n samples, (n, *shape): the same for the same seed."""
        x = torch.randn(n, *self.shape, generator=torch.Generator().manual_seed(seed))
        return x.to(next(self.denoiser.parameters()).device)

    @torch.no_grad()
    def generate(self, texts: list[str], steps: int = 20, w: float | Callable = 3.0, seed: int = 0, *,
                 negative: str = "", rescale: float = 0.0, step: Step | None = None) -> Tensor:
        """Prompts -> pictures (len(texts), 3, H, W) in [-1, 1], here 64 x 64.

        step: the sampler's rule, DPM-Solver++ unless given; `ddpm` in 40 steps is slower and a little better.
        The empty prompt is a valid one. Words that the text encoder does not know, in whatever script,
        and words beyond its length do not count; a warning names them.
        """
        if isinstance(texts, str) or not texts:
            raise ValueError(f"texts must be a list of at least one prompt, given {texts!r}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, given {steps}")
        lost = [word for text in [*texts, negative] for word in self.text_encoder.unread(text)]
        if lost:
            warnings.warn(f"words that the text encoder cannot read: {', '.join(dict.fromkeys(lost))}",
                          stacklevel=2)
        denoise = self.guided(texts, w, negative, rescale)
        x = self.noise(len(texts), seed)
        *_, last = sample(denoise, self.denoiser.schedule, x, steps, step or dpmpp_2m())
        return self.decoder.decode(last.x).clamp(-1, 1)
