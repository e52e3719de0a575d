"""Codecs, and diffusion on their latents."""
import hashlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import batches, checks, data, files
from ..clusters import kmeans, unit_pca
from ..denoiser import Denoiser
from ..metrics import psnr
from ..nets.autoencoder import KLAutoencoder, VQAutoencoder
from ..nets.unet import ClassEmbed
from ..systems import LatentDiffusion, StableDiffusion
from .pixel_models import of_pictures, picture_denoiser
from .registry import RUNS, SHIPPED, Recipe, Store, recipe, start_from


def codec_recipe(build, steps: int, change=lambda x: x, **more) -> Recipe:
    """The recipe that the three codecs share; change: what is done to each batch of pictures."""
    return Recipe(build, of_pictures(16, change=change, name="x"), steps, lr=2e-3, measure=fidelity, **more)


def fidelity(codec, store: Store) -> dict[str, float]:
    """How near copies of new pictures come to them: PSNR in dB, mean over the validation split."""
    x = data.to_float(data.emoji(64, split="val").pictures).to(next(codec.parameters()).device)
    copies = torch.cat([codec.decode(codec.encode(part)) for part in x.split(64)])
    return {"psnr_new_pictures_db": round(psnr(copies, x).mean().item(), 2)}


@recipe
def ae64() -> Recipe:
    """64 x 64 x 3 to 8 x 8 x 8 and back: the codec of every latent model."""
    return codec_recipe(KLAutoencoder, 80_000, data.flip_and_shift)


@recipe
def vae64() -> Recipe:
    """A classic VAE: the same auto-encoder with so large a beta that noise can be decoded."""
    return codec_recipe(partial(KLAutoencoder, beta=10), 10_000)


@recipe
def vq64() -> Recipe:
    """64 x 64 x 3 to 8 x 8 tokens and back: the pictures' alphabet of a small DALL-E."""
    return codec_recipe(VQAutoencoder, 77_000, data.flip_and_shift, needs=("ae64",),
                        prepare=partial(start_from, "ae64"))


@recipe
def vq64x2() -> Recipe:
    """64 x 64 x 3 to 8 x 8 cells of 2 tokens, each read from the pixels around it: DALL-E's alphabet."""
    return codec_recipe(partial(VQAutoencoder, codes=2, local=True), 10_000, data.flip_and_shift, muon=True)


def latent_denoiser(widths, **more) -> Denoiser:
    """`picture_denoiser` for 8 x 8 x 8 latents."""
    return picture_denoiser(widths, patch=1, channels=8, **more)


def of_latents(n: int, stream=batches.latent_batches, codec: str = "ae64"):
    """The batches of a recipe that learns the latents of a codec, n at a time."""
    def make(split="train", device=None, store=SHIPPED):
        return stream(data.emoji(64, split=split), latents(codec, split, store), n, device)
    return make


CLASSES = 512


@recipe
def ldm64() -> Recipe:
    """Latent diffusion on the latents of ae64, told which of 512 groups of look-alikes to draw."""
    def make(split="train", device=None, store=SHIPPED):
        emoji, z = data.emoji(64, split=split), latents("ae64", split, store)
        return batches.class_batches(emoji, z, look_alikes(split, store)[0], CLASSES, 64, device)
    build = partial(latent_denoiser, (96, 128), vectors={"label": partial(ClassEmbed, classes=CLASSES)})
    return Recipe(build, make, steps=55_000, needs=("ae64",), prepare=keep_shares, assemble=latent_diffusion)


def keep_shares(model: Denoiser, store: Store, fresh: bool) -> None:
    """How often each group occurs is counted, not learned. A run can go on from shipped weights only where
    k-means still numbers the groups as it did for them."""
    counted, kept = look_alikes("train", store)[1], model.net.vectors["label"].share
    if not fresh and not torch.allclose(counted, kept, atol=1e-3):
        raise ValueError("the shipped ldm64 knows its groups by other numbers than k-means gives now: train "
                         "it from nothing")
    kept[:] = counted


def latent_diffusion(model: Denoiser, store: Store) -> LatentDiffusion:
    """The system that draws with a denoiser of ae64's latents."""
    told = "label" in model.net.vectors
    share = model.net.vectors["label"].share if told else None
    return LatentDiffusion(model, store.load("ae64"), share)


@recipe
def ldm64_weak() -> Recipe:
    """A far smaller ldm64, trained for a short time: the mistakes that `autoguide` leads away from."""
    return Recipe(partial(latent_denoiser, (24, 24)), of_latents(32), steps=3_000, lr=2e-3, needs=("ae64",),
                  assemble=latent_diffusion)


@recipe
def sd64() -> Recipe:
    """Text to the latents of ae64; the text is read by the frozen text tower of clip."""
    def make(split="train", device=None, store=SHIPPED):
        emoji, z = data.emoji(64, split=split), latents("ae64", split, store)
        return batches.caption_batches(emoji, z, store.load("clip", device), 64, device)
    return Recipe(partial(latent_denoiser, (96, 112), words=128), make, steps=80_000, needs=("ae64", "clip"),
                  assemble=stable_diffusion)


def stable_diffusion(model: Denoiser, store: Store) -> StableDiffusion:
    """The system that draws with a denoiser that reads clip's words and makes ae64's latents."""
    return StableDiffusion(store.load("clip"), model, store.load("ae64"))


# ---- Computed once -------------------------------------------------------------------------------

UNKEPT: dict[Path, Tensor] = {}  # latents that could not be written, by the file where they would be


def latents(codec: str, split: str = "train", store: Store = SHIPPED) -> Tensor:
    """Scaled latents (N, C, h, w) of one split, in the order of `data.emoji(64, split=split)`.

    All are computed once and kept under runs/, or in memory, with a warning, where nothing can be written.
    The file's name holds a hash of the codec's checkpoint and of the data, so that one made by another codec
    is never read; one that is damaged or does not fit is made anew after it was deleted, as the error says.
    """
    checks.choice(split, data.SPLITS, "split")
    key = hashlib.sha256((store.card(codec)["sha256"] + data.fingerprint()).encode()).hexdigest()
    path, rows = RUNS / f"latents-{codec}-{key[:16]}.safetensors", data.table(split="all")
    if not path.exists() and path not in UNKEPT:
        model = store.load(codec)
        with torch.inference_mode():
            parts = tqdm(data.emoji(64, split="all").pictures.split(64), desc=f"latents of {codec}")
            z = torch.cat([model.encode(data.to_float(x)) for x in parts])
        try:
            files.save(path, {"latents": z})
        except OSError as error:
            UNKEPT[path] = z
            checks.warn(f"the latents of {codec} are kept for this process only: {error}")
    z = UNKEPT[path] if path in UNKEPT else _kept(path, len(rows))
    return z[torch.tensor([split in ("all", row["split"]) for row in rows])]


def _kept(path: Path, n: int) -> Tensor:
    """The latents (n, C, h, w) in a file; ValueError where it holds something else."""
    advice = f"It is a copy that can be computed again: delete {path.name}."
    found = files.read(path, advice)
    z = found.get("latents")
    if len(found) != 1 or z is None or z.ndim != 4 or len(z) != n or z.dtype != torch.float32:
        holds = ", ".join(f"{name}: {checks.kind(x)}" for name, x in found.items())
        raise ValueError(f"{path} must hold one latent for each of {n} pictures, latents: float32 "
                         f"({n}, C, h, w); it holds {holds or 'nothing'}. {advice}")
    if not z.isfinite().all():
        raise ValueError(f"{path} holds NaN or infinite numbers. {advice}")
    return z


def look_alikes(split: str, store: Store = SHIPPED) -> tuple[Tensor, Tensor]:
    """The group of look-alikes of each picture of a split, (N,), and the share of each of the 512 groups.

    The groups are found among the training pictures; others join the group of their nearest training picture.
    """
    z = latents("ae64", "train", store)
    group, share = kmeans(unit_pca(z), data.emoji(64).weights(), CLASSES)
    if split == "train":
        return group, share
    nearest = torch.cdist(latents("ae64", split, store).flatten(1), z.flatten(1)).argmin(1)
    return group[nearest], share
