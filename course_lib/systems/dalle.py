"""DALL-E (Ramesh et al. 2021): a transformer reads the prompt and writes a picture's tokens, one after the
other; a decoder makes them a picture. Of several pictures CLIP keeps the one that suits the prompt best."""
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..autoregressive import unmask, write
from ..nets.autoencoder import VQAutoencoder
from ..nets.clip import CLIP
from ..nets.token_transformers import DALLE, MaskGIT
from ..rng import of_seed
from .prompts import TextEncoder, TextToPicture


@checks.typed
@dataclass
class DallE(TextToPicture):
    """Text -> pictures, in three parts and a judge. transformer: a DALLE, or a MaskGIT, which writes several
    tokens at once. ranker: the CLIP that ranks, where several are drawn."""
    text_encoder: TextEncoder
    transformer: DALLE | MaskGIT
    decoder: VQAutoencoder
    ranker: CLIP | None = None

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.transformer.parameters()).device

    @checks.typed
    def film(self, texts: list[str], seed: int = 0, w: float = 2.0, **how) -> Iterator[Tensor]:
        """Yield the tokens as they come, in a row: `write` (or `unmask`) of the prompts. how: what these
        take, such as temperature."""
        draw = unmask if isinstance(self.transformer, MaskGIT) else write
        return draw(self.transformer, *self.told(texts), w, generator=of_seed(seed), **how)

    @checks.typed
    def intermediate(self, texts: list[str], seed: int = 0, w: float = 2.0, **how) -> Tensor:
        """The tokens that `generate` decodes, (len(texts), rows, columns codes)."""
        *_, tokens = self.film(texts, seed, w, **how)
        rows, columns = self.transformer.grid
        return tokens.view(len(texts), rows, columns * self.transformer.codes)

    @checks.typed
    @torch.no_grad()
    def generate(self, texts: list[str], seed: int = 0, w: float = 2.0, best_of: int = 1, **how) -> Tensor:
        """Prompts -> pictures (len(texts), 3, 64, 64) in [-1, 1].

        w: guidance, 1 is none. best_of: so many are drawn for each prompt, and the one whose CLIP embedding
        is nearest to the prompt's is kept. how: temperature, top_k, top_p, as in `chances`. The seed decides
        everything.
        """
        checks.counts(best_of=best_of)
        texts = checks.texts(texts)
        if best_of > 1 and self.ranker is None:
            raise ValueError("best_of needs a CLIP that ranks: replace(system, ranker=recipes.load('clip'))")
        many = [text for text in texts for _ in range(best_of)]
        x = self.decoder.decode_tokens(self.intermediate(many, seed, w, **how)).clamp(-1, 1)
        if best_of == 1:
            return x
        suits = (self.ranker.pictures(x) * self.ranker.texts(many)).sum(dim=1)
        best = suits.view(len(texts), best_of).argmax(dim=1)
        return x.view(len(texts), best_of, *x.shape[1:])[torch.arange(len(texts)), best]
