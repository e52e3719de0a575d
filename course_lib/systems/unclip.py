"""DALL-E 2 (Ramesh et al. 2022, "unCLIP"): a prior draws, for the prompt, the CLIP embedding of a picture; a
denoiser that is told the embedding makes a latent of such a picture, and a decoder makes it a picture."""
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..denoiser import Denoiser
from ..guidance import guide
from ..nets.autoencoder import LATENT, Decoder
from ..nets.clip import CLIP
from ..priors import AutoregressivePrior, DiffusionPrior, Topics, stretched
from ..samplers import Step, dpmpp_2m, draw
from .prompts import TextToPicture, check_prompts, encode, seeded


@checks.typed
@dataclass
class UnCLIP(TextToPicture):
    """Text -> embedding -> pictures. The text encoder is a whole CLIP: it also embeds pictures."""
    text_encoder: CLIP
    prior: DiffusionPrior | AutoregressivePrior
    denoiser: Denoiser
    decoder: Decoder
    shape: tuple[int, ...] = (8, LATENT, LATENT)  # of a latent

    @checks.typed
    def intermediate(self, texts: list[str], seed: int = 0, prior_w: float = 1.0, **how) -> Tensor:
        """The embeddings that the prior draws, unit vectors (len(texts), dim). prior_w: its guidance. how:
        what `prior.embed` takes."""
        texts, nothing = check_prompts(self.text_encoder, texts)
        reader = Topics(self.text_encoder)
        return self.prior.embed(encode(reader, texts), encode(reader, nothing), seed, prior_w, **how)

    @checks.typed
    @torch.no_grad()
    def picture(self, embedding: Tensor, texts: list[str] | None = None, steps: int = 20, w: float = 3.0,
                seed: int = 0, *, step: Step | None = None) -> Tensor:
        """Embeddings (B, dim) -> pictures (B, 3, 64, 64) in [-1, 1]. texts: what the denoiser is told beside
        the embedding; None is nothing. w: guidance, away from no embedding and no text."""
        n = len(embedding)
        cond, null = self.told([""] * n if texts is None else texts)
        given = stretched(embedding.to(self.device))
        denoise = guide(self.denoiser, cond | {"embedding": given},
                        null | {"embedding": torch.zeros_like(given)}, w)
        with seeded(seed):
            z = draw(denoise, denoise.schedule, self.start(n, seed), steps, step or dpmpp_2m())
        return self.decoder.decode(z).clamp(-1, 1)

    @checks.typed
    def generate(self, texts: list[str], steps: int = 20, w: float = 3.0, seed: int = 0, *,
                 step: Step | None = None, **how) -> Tensor:
        """Prompts -> pictures (len(texts), 3, 64, 64) in [-1, 1]. how: what `intermediate` takes. The seed
        decides everything, unless the step has a generator of its own."""
        return self.picture(self.intermediate(texts, seed, **how), texts, steps, w, seed, step=step)
