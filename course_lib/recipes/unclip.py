"""DALL-E 2 in small (Ramesh et al. 2022, "unCLIP"): text -> CLIP embedding of a picture -> picture.

Two priors for the first half, and a denoiser of latents for the second. It begins with the weights of sd64:
what is new is that it is told an embedding, too.
"""
from functools import partial

import torch
from torch import Tensor

from .. import batches, checks, data
from ..guidance import drop
from ..nets.unet import VectorEmbed
from ..priors import AutoregressivePrior, DiffusionPrior, Topics, stretched
from ..systems import UnCLIP
from . import latent_models
from .registry import SHIPPED, Recipe, Store, recipe, start_from


@torch.inference_mode()
def embeddings(split: str = "train", store: Store = SHIPPED) -> Tensor:
    """CLIP's embeddings of the pictures of one split, unit vectors (N, 128), in the order of
    `data.emoji(64, split=split)`."""
    clip = store.load("clip")
    parts = data.emoji(64, split=split).pictures.split(512)
    return torch.cat([clip.pictures(data.to_float(x)) for x in parts])


def prior_recipe(kind, steps: int, **more) -> Recipe:
    """What both priors share: the texts, and the embeddings of their pictures."""
    def make(split="train", device=None, store=SHIPPED):
        e, reader = embeddings(split, store), Topics(store.load("clip", device))
        for batch in batches.caption_batches(data.emoji(64, split=split), e, reader, 128, device):
            yield {("embedding" if k == "x_0" else k): v for k, v in batch.items()}
    return Recipe(kind, make, steps, needs=("clip",), **more)


@recipe
def unclip_prior() -> Recipe:
    """Text to CLIP's embedding of a picture, by diffusion."""
    return prior_recipe(DiffusionPrior, 2_000)


@recipe
def unclip_prior_ar() -> Recipe:
    """Text to CLIP's embedding of a picture, as 32 numbers, one after the other."""
    return prior_recipe(AutoregressivePrior, 3_000, prepare=take_axes)


def take_axes(model: AutoregressivePrior, store: Store, fresh: bool) -> None:
    """Principal axes and steps are measured, not learned."""
    if fresh:
        model.measure(embeddings("train", store), data.emoji(64).weights())


@recipe
def unclip() -> Recipe:
    """CLIP's embedding of a picture, and its text, to the latents of ae64: the decoder of DALL-E 2."""
    def make(split="train", device=None, store=SHIPPED):
        emoji, z = data.emoji(64, split=split), latent_models.latents("ae64", split, store)
        clip, e = store.load("clip", device), stretched(embeddings(split, store))
        for batch in batches.caption_batches(emoji, z, clip, 64, device, p=0.5, embedding=e):
            given = batch["embedding"]
            yield batch | {"embedding": drop(given, torch.zeros_like(given[0]), 0.1)}
    build = partial(latent_models.latent_denoiser, (96, 112), words=128,
                    vectors={"embedding": partial(VectorEmbed, width=128)})
    return Recipe(build, make, steps=8_000, needs=("ae64", "clip", "sd64"),
                  prepare=partial(start_from, "sd64"), assemble=system)


def system(model, store: Store, prior: str = "diffusion") -> UnCLIP:
    """The whole, with one of the two priors: "diffusion" or "autoregressive"."""
    name = {"diffusion": "unclip_prior", "autoregressive": "unclip_prior_ar"}
    checks.choice(prior, tuple(name), "prior")
    return UnCLIP(store.load("clip"), store.load(name[prior]), model, store.load("ae64"))
