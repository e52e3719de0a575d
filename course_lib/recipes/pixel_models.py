"""Diffusion on pictures: 16, 32 and 64 px, and the enlargers from small to large."""
from dataclasses import replace
from functools import partial

from .. import batches, data
from ..denoiser import Denoiser, predict_eps, predict_x0
from ..nets.unet import Blind, LevelEmbed, Regression, UNet
from ..schedules import Cosine
from .registry import Recipe, recipe


def picture_denoiser(widths=(96, 128), patch: int = 4, **more) -> Denoiser:
    """A U-Net that outputs the clean picture; the loss is that of the noise it implies, with its
    weight SNR_t capped at 5 (Hang et al. 2023). more: what else `UNet` takes."""
    net = UNet(widths, patch=patch, **more)
    return Denoiser(net, Cosine(), predict_x0, loss_as=predict_eps, floor=5**-0.5)


def of_pictures(n: int, size: int = 64, subset: str = "all", stream=batches.picture_batches, **more):
    """The batches of a recipe that learns from pictures alone: n at a time, as `stream` makes them."""
    def make(split="train", device=None, store=None):
        return stream(data.emoji(size, subset, split), n, device, **more)
    return make


@recipe
def faces() -> Recipe:
    """The live model of notebook 02: 32 px faces, about a minute on two CPU cores. Not shipped."""
    build = partial(picture_denoiser, (32, 64), patch=2)
    return Recipe(build, of_pictures(16, 32, "faces"), steps=700, lr=2e-3, ema=0.99)


@recipe
def faces32() -> Recipe:
    """32 px faces, unconditional."""
    return Recipe(picture_denoiser, of_pictures(32, 32, "faces"), steps=5_000, ema=0.998)


@recipe
def all32() -> Recipe:
    """All emoji at 32 px, unconditional."""
    return Recipe(picture_denoiser, of_pictures(32, 32), steps=9_000)


@recipe
def level16() -> Recipe:
    """16 px faces; with `blind16`, the comparison of notebook 02."""
    build = partial(picture_denoiser, (32, 48), patch=2)
    return Recipe(build, of_pictures(32, 16, "faces"), steps=3_000, lr=2e-3)


@recipe
def blind16() -> Recipe:
    """The same as `level16`, but the network is never told the noise level: its t is always 0."""
    def build():
        model = level16().build()
        model.net = Blind(model.net)
        return model
    return replace(level16(), build=build)


def enlarger(**more) -> Denoiser:
    """The network of all enlargers: 64 px pictures beside small ones and the share of noise on these."""
    return picture_denoiser((48, 96), cond_ch=3, vectors={"aug_level": LevelEmbed}, **more)


@recipe
def sr16to64() -> Recipe:
    """16 px to 64 px by diffusion; the small picture is damaged by up to half noise in training."""
    return Recipe(enlarger, of_pictures(16, stream=batches.enlarging_batches), steps=6_000)


@recipe
def sr16to64_regression() -> Recipe:
    """16 px to 64 px by regression: the same network, asked for the picture at once."""
    return replace(sr16to64(), build=lambda: Regression(enlarger().net),
                   batches=of_pictures(16, stream=batches.small_batches))
