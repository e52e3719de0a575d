"""Imagen in small (Saharia et al. 2022): a frozen text encoder, a 16 px picture by diffusion, and an enlarger
to 64 px; both networks read the text."""
from functools import partial

from .. import batches, data
from ..captions import mostly_captions_in_english
from ..nets.text import MiniLM
from ..systems import Imagen
from .pixel_models import enlarger, picture_denoiser
from .registry import Recipe, Store, recipe, start_from


def of_captioned_pictures(n: int, size: int, change=lambda x: {}):
    """The batches of a recipe that learns pictures of this size with texts that MiniLM reads; change(x_0):
    what else is told of them."""
    def make(split="train", device=None, store=None):
        emoji, encoder = data.emoji(size, split=split), MiniLM().to(device)
        for batch in batches.caption_batches(emoji, emoji.pictures, encoder, n, device,
                                             texts=mostly_captions_in_english):
            yield batch | change(batch["x_0"])
    return make


@recipe
def imagen() -> Recipe:
    """The first stage of Imagen: text to 16 x 16 pixels."""
    build = partial(picture_denoiser, (96, 112), patch=2, words=MiniLM.width)
    return Recipe(build, of_captioned_pictures(64, 16), steps=10_000, assemble=system)


@recipe
def imagen_enlarger() -> Recipe:
    """The second stage of Imagen: text and 16 px to 64 px, the small picture up to half noise. It begins with
    the weights of sr16to64, which reads no text."""
    build = partial(enlarger, words=MiniLM.width)
    return Recipe(build, of_captioned_pictures(16, 64, batches.damaged_copies), steps=12_000,
                  needs=("sr16to64",), prepare=partial(start_from, "sr16to64"))


def system(model, store: Store) -> Imagen:
    """The whole: MiniLM reads, and both stages are told."""
    return Imagen(MiniLM(), model, store.load("imagen_enlarger"))
