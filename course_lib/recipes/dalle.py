"""DALL-E in small: text to the picture tokens of vq64x2, one after the other, or masked, several at once."""
import math
from functools import partial

from .. import batches, data
from ..nets.autoencoder import VQAutoencoder
from ..nets.token_transformers import DALLE, MaskGIT
from ..systems import DallE
from . import latent_models
from .judges import tokenizer
from .registry import SHIPPED, Recipe, Store, recipe

CODEC = "vq64x2"


def token_recipe(kind, steps: int, **more) -> Recipe:
    """What both share: the texts as numbers of words, and the tokens of the same codec.

    The pictures are read as they are: a shift by a few pixels changes every token, and there would be far
    more to learn. Dropout keeps the network from learning the rows by heart.
    """
    words = tokenizer()

    def make(split="train", device=None, store=SHIPPED):
        emoji, z = data.emoji(64, split=split), latent_models.latents(CODEC, split, store)
        tokens = store.load(CODEC).pack(z)
        for batch in batches.caption_batches(emoji, tokens, words, 64, device):
            yield {"tokens": batch["x_0"], "text": batch["text"]}
    build = partial(kind, len(words), words.length, math.prod(VQAutoencoder.levels), codes=2, dropout=0.1,
                    **more)
    return Recipe(build, make, steps, lr=3e-3, muon=True, needs=(CODEC,), assemble=system)


def system(model, store: Store) -> DallE:
    """The whole; the CLIP that ranks is the one that Stable Diffusion reads with."""
    return DallE(tokenizer(), model, store.load(CODEC), store.load("clip"))


@recipe
def dalle() -> Recipe:
    """Text to picture tokens, one after the other: the transformer of a small DALL-E."""
    return token_recipe(DALLE, 5_000, wrong=0.1)


@recipe
def maskgit() -> Recipe:
    """Text to picture tokens, several at once: the same transformer without an order."""
    return token_recipe(MaskGIT, 5_000)
