"""Data: the emoji that come with the course, and 2-D toys whose exact denoiser is known.

Pictures are uint8 (N, 3, S, S) in the data set and float in [-1, 1] everywhere else.
"""
import csv
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FOLDER = Path(__file__).resolve().parent.parent / "data"
SIZES, SUBSETS, SPLITS = (16, 32, 64), ("all", "faces"), ("train", "val", "held_out", "all")


@dataclass(frozen=True)
class Emoji:
    """pictures: uint8 (N, 3, S, S); table: one dict a picture, the columns of captions.csv."""
    pictures: Tensor
    table: list[dict]

    def __len__(self):
        return len(self.table)

    @property
    def captions(self) -> list[str]:
        return [row["caption"] for row in self.table]

    def weights(self, power: float = 0.5) -> Tensor:
        """Probability of each picture in a training batch, (N,), sums to 1.

        A concept with c pictures gets a share proportional to c^power: power = 1 draws every
        picture alike (60 % people), 0 every concept alike, 0.5 lies between.
        """
        names = [row["concept"] for row in self.table]
        _, index, count = np.unique(names, return_inverse=True, return_counts=True)
        w = torch.from_numpy(count[index]).double() ** (power - 1)
        return w / w.sum()

    def draws(self, n: int, power: float = 0.5, generator=None) -> Iterator[Tensor]:
        """Endless batches of n row numbers, (n,), drawn with `weights`."""
        weights = self.weights(power).float()
        while True:
            yield torch.multinomial(weights, n, replacement=True, generator=generator)

    def batches(self, n: int, device=None, power: float = 0.5, generator=None) -> Iterator[Tensor]:
        """Endless batches of n pictures, float (n, 3, S, S) in [-1, 1]. The set is moved once."""
        pictures = self.pictures.to(device)
        for i in self.draws(n, power, generator):
            yield to_float(pictures[i.to(device)])


def emoji(size: int = 64, subset: str = "all", split: str = "train") -> Emoji:
    """The emoji: size 64, 32 or 16 px; subset "all" or "faces"; split "train", "val" (concepts
    never trained on), "held_out" (combinations never trained on) or "all"."""
    for value, allowed, what in ((size, SIZES, "size"), (subset, SUBSETS, "subset"),
                                 (split, SPLITS, "split")):
        if value not in allowed:
            raise ValueError(f"unknown {what} {value!r}: choose one of {allowed}")
    table = _table()
    keep = [i for i, row in enumerate(table) if (split == "all" or row["split"] == split)
            and (subset == "all" or row["face"] == "1")]
    return Emoji(shrink(_pictures()[keep], 64 // size), [table[i] for i in keep])


def to_float(pictures: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float -1 .. 1."""
    return pictures.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """float -1 .. 1 (clipped) -> uint8 0 .. 255."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def shrink(pictures: Tensor, k: int) -> Tensor:
    """Average k x k squares of pixels: (..., H, W) -> (..., H/k, W/k), same dtype."""
    if k == 1:
        return pictures
    wide = torch.int16 if pictures.dtype == torch.uint8 else pictures.dtype
    total = sum(pictures[..., i::k, j::k].to(wide) for i in range(k) for j in range(k))
    if pictures.dtype != torch.uint8:
        return total / k**2
    return ((total + k * k // 2) // (k * k)).to(torch.uint8)


def shift(x: Tensor, most: int = 3) -> Tensor:
    """The batch of pictures (B, 3, H, W) in [-1, 1], shifted by up to `most` pixels on white."""
    dy, dx = torch.randint(0, 2 * most + 1, (2,)).tolist()
    wide = torch.nn.functional.pad(x, (most, most, most, most), value=1.0)
    return wide[..., dy:dy + x.shape[-2], dx:dx + x.shape[-1]]


def flip_and_shift(x: Tensor) -> Tensor:
    """The batch of pictures (B, 3, H, W) in [-1, 1], mirrored or not, and shifted by up to 4 pixels."""
    return shift(x.flip(3) if torch.rand(()) < 0.5 else x, most=4)


def _read(name: str) -> Path:
    """A file of the data folder whose hash is the manifest's; an error that says what to do else."""
    path = FOLDER / name
    try:
        expected = json.loads((FOLDER / "manifest.json").read_text())[name]["sha256"]
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error.filename} is missing. Restore it with `git checkout -- "
                                "data` or rebuild the data with `make data`.") from None
    if found != expected:
        raise ValueError(f"{path} is damaged (sha256 {found[:12]}…, expected {expected[:12]}…). "
                         "Restore it with `git checkout -- data` or rebuild it with `make data`.")
    return path


def fingerprint() -> str:
    """The sha256 of the manifest, which holds the hash of every file: other data, other name."""
    return hashlib.sha256((FOLDER / "manifest.json").read_bytes()).hexdigest()


@lru_cache(1)
def _table() -> list[dict]:
    with open(_read("captions.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@lru_cache(1)
def _pictures() -> Tensor:
    """All pictures at 64 px, uint8 (10856, 3, 64, 64), cut from the contact sheets."""
    sheets = {k: v for k, v in json.loads((FOLDER / "manifest.json").read_text()).items() if "count" in v}
    with torch.inference_mode(False):  # the first caller may be in that mode; what it makes is then sealed
        out = torch.empty(sum(v["count"] for v in sheets.values()), 3, 64, 64, dtype=torch.uint8)

    def cut(item):
        name, entry = item
        sheet = np.array(Image.open(_read(name)))  # (rows * 64, 32 * 64, 3)
        tiles = torch.from_numpy(sheet).reshape(-1, 64, 32, 64, 3).permute(0, 2, 4, 1, 3).flatten(0, 1)
        out[entry["first"]:entry["first"] + entry["count"]] = tiles[:entry["count"]]

    with ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        list(pool.map(cut, sheets.items()))
    return out


def toy2d(name: str, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points (n, 2) of about unit size: "moons", "spiral", "ring" or "checkerboard"."""
    u = torch.rand(n, generator=generator)
    z = torch.randn(n, 2, generator=generator)
    if name == "moons":
        side = torch.arange(n) % 2
        angle = torch.pi * u
        sign = 1 - 2 * side
        x = torch.stack([sign * angle.cos() + side - 0.5, sign * angle.sin() - 0.5 * side + 0.1], 1)
        return x + 0.07 * z
    if name == "spiral":
        angle = 3 * torch.pi * u.sqrt()
        return torch.stack([angle.cos(), angle.sin()], 1) * (angle / (3 * torch.pi))[:, None] * 1.5 + 0.04 * z
    if name == "ring":
        return torch.stack([(2 * torch.pi * u).cos(), (2 * torch.pi * u).sin()], 1) + 0.05 * z
    if name == "checkerboard":
        column = torch.randint(0, 4, (n,), generator=generator)
        row = 2 * torch.randint(0, 2, (n,), generator=generator) + column % 2
        corner = torch.stack([column, row], 1) / 2 - 1
        return corner + torch.rand(n, 2, generator=generator) / 2
    raise ValueError(f'unknown toy {name!r}: choose "moons", "spiral", "ring" or "checkerboard"')


class GaussianMixture:
    """A mixture of K round Gaussians in d dimensions whose noisy density is known at all times.

    weights (K,), means (K, d), std (K,). Noised, x_t = s x_0 + n eps is again a mixture, with
    means s mu_k and variances s^2 std_k^2 + n^2: so score and best denoiser are exact formulas.
    """

    def __init__(self, weights, means, std):
        self.means = torch.as_tensor(means)
        self.weights = torch.as_tensor(weights).to(self.means) / sum(weights)
        self.std = torch.as_tensor(std).to(self.means).expand(len(self.weights))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n points (n, d)."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[k] + self.std[k, None] * z

    def _parts(self, x, s, n):
        """Log density of each component at x (N, d), times its weight: (N, K); and variances (K,)."""
        var = s**2 * self.std**2 + n**2
        gap = ((x[:, None] - s * self.means) ** 2).sum(-1)
        return self.weights.log() - 0.5 * gap / var - 0.5 * x.shape[1] * torch.log(2 * torch.pi * var), var

    def log_prob(self, x: Tensor, s=1.0, n=0.0) -> Tensor:
        """ln p of x_t = s x_0 + n eps at x (N, d), (N,)."""
        return self._parts(x, s, n)[0].logsumexp(1)

    def score(self, x: Tensor, s=1.0, n=0.0) -> Tensor:
        """Gradient of log_prob, (N, d): where the density rises."""
        log_p, var = self._parts(x, s, n)
        pull = (s * self.means - x[:, None]) / var[:, None]  # (N, K, d)
        return (log_p.softmax(1)[..., None] * pull).sum(1)

    def denoiser(self, schedule):
        """(x_t, t) -> Pred with the exact E[x_0 given x_t] = (x_t + n^2 score) / s (Tweedie) and
        E[eps given x_t] = -n score. t: one time for the whole batch. At s = 0, x0 is the mean."""
        from .denoiser import Pred

        def denoise(x, t):
            s, n = (c.to(x).flatten()[0] for c in (schedule.signal(t), schedule.noise(t)))
            log_p, var = self._parts(x, s, n)
            w = log_p.softmax(1)  # which component did x come from?
            shrunk = self.means + (s * self.std**2 / var)[:, None] * (x[:, None] - s * self.means)
            return Pred((w[..., None] * shrunk).sum(1), -n * self.score(x, s, n))
        return denoise
