"""DALL-E in small: text to the picture tokens of vq64x2, one after the other, or masked, several at once."""
import math
from functools import partial

import torch

from .. import batches, data
from ..nets.autoencoder import VQAutoencoder
from ..nets.token_transformers import DALLE, MaskGIT
from ..systems import DallE
from .judges import tokenizer
from .registry import SHIPPED, Recipe, Store, recipe

CODEC = "vq64x2"


def token_recipe(kind, steps: int, **more) -> Recipe:
    """What both share: the texts as numbers of words, and the tokens of the same codec. The pictures are
    shifted before they are read: one and the same row of tokens is soon known by heart."""
    words = tokenizer()

    def make(split="train", device=None, store=SHIPPED):
        emoji, codec = data.emoji(64, split=split), store.load(CODEC, device)
        for batch in batches.caption_batches(emoji, emoji.pictures, words, 32, device):
            with torch.no_grad():
                tokens = codec.encode_tokens(data.shift(batch["x_0"]))
            yield {"tokens": tokens, "text": batch["text"]}
    build = partial(kind, len(words), words.length, math.prod(VQAutoencoder.levels), codes=2, dropout=0.1,
                    **more)
    return Recipe(build, make, steps, lr=3e-3, muon=True, needs=(CODEC,), assemble=system)


def system(model, store: Store) -> DallE:
    """The whole; the CLIP that ranks is the one that Stable Diffusion reads with."""
    return DallE(tokenizer(), model, store.load(CODEC), store.load("clip"))


@recipe
def dalle() -> Recipe:
    """Text to picture tokens, one after the other: the transformer of a small DALL-E."""
    return token_recipe(DALLE, 6_000, wrong=0.05)


@recipe
def maskgit() -> Recipe:
    """Text to picture tokens, several at once: the same transformer without an order."""
    return token_recipe(MaskGIT, 5_300)
