"""Networks that write pictures token by token: DALL-E in small, and its masked twin."""
from functools import partial

from torch import Tensor

from .. import batches, data
from ..nets.writers import DALLE, MaskedWriter
from . import latent_models
from .judges import tokenizer
from .registry import SHIPPED, Recipe, Store, recipe

CODEC, CODES = "vq64x2", 2


def tokens(split: str = "train", store: Store = SHIPPED) -> Tensor:
    """The picture tokens of one split, (N, 8, 8 codes), in the order of `data.emoji(64, split=split)`."""
    return store.load(CODEC).pack(latent_models.latents(CODEC, split, store))


def writer_recipe(kind, steps: int) -> Recipe:
    """What both share: the texts as numbers of words, and the tokens of the same codec."""
    words = tokenizer()

    def make(split="train", device=None, store=SHIPPED):
        emoji = data.emoji(64, split=split)
        for batch in batches.caption_batches(emoji, tokens(split, store), words, 32, device):
            yield {"tokens": batch["x_0"], "text": batch["text"]}
    build = partial(kind, len(words), words.length, 875, codes=CODES)
    return Recipe(build, make, steps, needs=(CODEC,))


@recipe
def dalle() -> Recipe:
    """Text to picture tokens, one after the other: the transformer of a small DALL-E."""
    return writer_recipe(DALLE, 6_000)


@recipe
def masked_writer() -> Recipe:
    """Text to picture tokens, several at once: the same transformer without an order (MaskGIT)."""
    return writer_recipe(MaskedWriter, 6_000)
