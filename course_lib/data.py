"""Data: the emoji that come with the course.

Pictures are uint8 (N, 3, S, S) in the data set and float in [-1, 1] everywhere else.
"""
import csv
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import checks, files, rng

FOLDER = Path(__file__).resolve().parent.parent / "data"
RESTORE = "Restore it with `git checkout -- data` or rebuild the data with `make data`."
SIZES, SUBSETS, SPLITS = (16, 32, 64), ("all", "faces"), ("train", "val", "held_out", "all")


@checks.typed
@dataclass(frozen=True)
class Emoji:
    """pictures: uint8 (N, 3, S, S); table: one dict a picture, the columns of captions.csv."""
    pictures: Tensor
    table: list[dict]

    def __post_init__(self):
        if self.pictures.dtype != torch.uint8 or self.pictures.ndim != 4 or self.pictures.shape[1] != 3:
            raise ValueError(f"pictures must be uint8 (N, 3, S, S), given {checks.kind(self.pictures)}")
        if len(self.pictures) != len(self.table):
            raise ValueError(f"each picture needs its row; given {len(self.pictures)} pictures and "
                             f"{len(self.table)} rows")

    def __len__(self):
        return len(self.table)

    @property
    def captions(self) -> list[str]:
        return [row["caption"] for row in self.table]

    @checks.typed
    def weights(self, power: float = 0.5) -> Tensor:
        """Probability of each picture in a training batch, (N,), sums to 1.

        A concept with c pictures gets a share proportional to c^power: power = 1 draws every
        picture alike (60 % people), 0 every concept alike, 0.5 lies between.
        """
        checks.number(power, -np.inf, what="power")
        names = [row["concept"] for row in self.table]
        _, index, count = np.unique(names, return_inverse=True, return_counts=True)
        w = torch.from_numpy(count[index]).double() ** (power - 1)
        return w / w.sum()

    @checks.typed
    def draws(self, n: int, power: float = 0.5, generator=None) -> Iterator[Tensor]:
        """Endless batches of n row numbers, (n,), drawn with `weights`."""
        checks.whole(n, 1, what="n, the size of a batch,")
        weights = self.weights(power).float().to(rng.place(None, generator))
        while True:
            yield torch.multinomial(weights, n, replacement=True, generator=generator).cpu()

    @checks.typed
    def batches(self, n: int, device=None, power: float = 0.5, generator=None) -> Iterator[Tensor]:
        """Endless batches of n pictures, float (n, 3, S, S) in [-1, 1]. The set is moved once."""
        pictures = self.pictures.to(device)
        for i in self.draws(n, power, generator):
            yield to_float(pictures[i.to(device)])


def emoji(size: int = 64, subset: str = "all", split: str = "train") -> Emoji:
    """The emoji: size 64, 32 or 16 px; subset "all" or "faces"; split "train", "val" (concepts
    never trained on), "held_out" (combinations never trained on) or "all"."""
    checks.choice(size, SIZES, "size")
    keep, rows = _chosen(subset, split)
    return Emoji(shrink(_pictures()[keep], 64 // size), rows)


def table(subset: str = "all", split: str = "train") -> list[dict]:
    """The rows of data/captions.csv that `emoji` would give, without the pictures: fast and small."""
    return _chosen(subset, split)[1]


def _chosen(subset, split):
    checks.choice(subset, SUBSETS, "subset")
    checks.choice(split, SPLITS, "split")
    rows = _table()
    keep = [i for i, row in enumerate(rows) if (split == "all" or row["split"] == split)
            and (subset == "all" or row["face"] == "1")]
    return keep, [rows[i] for i in keep]


def to_float(pictures: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float -1 .. 1."""
    if not torch.is_tensor(pictures) or pictures.dtype != torch.uint8:
        raise ValueError(f"to_float takes uint8 pictures, 0 .. 255; given {checks.kind(pictures)}")
    return pictures.float() / 127.5 - 1


@checks.typed
def to_uint8(x: Tensor) -> Tensor:
    """float -1 .. 1 (clipped) -> uint8 0 .. 255."""
    if checks.finite(x, "pictures").numel() and x.min() >= 0 and x.max() > 10:
        raise ValueError(f"to_uint8 takes floats in -1 .. 1; given {x.min():g} .. {x.max():g}")
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@checks.typed
def shrink(pictures: Tensor, k: int) -> Tensor:
    """Average k x k squares of pixels: (..., H, W) -> (..., H/k, W/k), uint8 rounded, else float. k divides H
    and W."""
    checks.whole(k, 1, what="k")
    if pictures.ndim < 2 or not (pictures.dtype == torch.uint8 or pictures.is_floating_point()):
        raise ValueError(f"pictures must be (..., H, W), uint8 or floats; given {checks.kind(pictures)}")
    if pictures.shape[-2] % k or pictures.shape[-1] % k:
        raise ValueError(f"k = {k} does not divide the edges of {checks.kind(pictures)} pictures")
    if k == 1:
        return pictures
    wide = torch.int32 if pictures.dtype == torch.uint8 else pictures.dtype
    total = sum(pictures[..., i::k, j::k].to(wide) for i in range(k) for j in range(k))
    if pictures.dtype != torch.uint8:
        return total / k**2
    return ((total + k * k // 2) // (k * k)).to(torch.uint8)


@checks.typed
def shift(x: Tensor, most: int = 3) -> Tensor:
    """The batch of pictures (B, 3, H, W) in [-1, 1], shifted on white by up to `most` pixels: one shift,
    drawn at random, for all of them."""
    _batch(x)
    checks.whole(most, 0, what="most")
    dy, dx = torch.randint(0, 2 * most + 1, (2,)).tolist()
    wide = torch.nn.functional.pad(x, (most, most, most, most), value=1.0)
    return wide[..., dy:dy + x.shape[-2], dx:dx + x.shape[-1]]


@checks.typed
def flip_and_shift(x: Tensor) -> Tensor:
    """The batch of pictures (B, 3, H, W) in [-1, 1], mirrored or not, and shifted by up to 4 pixels: all of
    them alike."""
    return shift(_batch(x).flip(3) if torch.rand(()) < 0.5 else x, most=4)


def _batch(x: Tensor) -> Tensor:
    """x, if it is a batch of pictures (B, 3, H, W), which may be empty; else ValueError."""
    if checks.finite(x, "pictures").ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"pictures must be (B, 3, H, W), given {checks.kind(x)}")
    return x


def results(name: str) -> list[dict[str, str]]:
    """The rows of a table of benchmarks/: what a script measured there since it takes longer than a lesson.
    """
    folder = FOLDER.parent / "benchmarks"
    if not (folder / name).is_file():
        there = ", ".join(sorted(p.name for p in folder.glob("*.csv")))
        raise ValueError(f"no table {name!r} in benchmarks/; there are: {there}")
    return list(csv.DictReader((folder / name).read_text(encoding="utf-8").splitlines()))


def _manifest() -> dict:
    """What the data folder holds: file -> sha256 and, of a sheet, its first row and its count."""
    return files.read_json(FOLDER / "manifest.json", RESTORE)


def _read(name: str) -> Path:
    """A file of the data folder whose hash is the manifest's; an error that says what to do else."""
    return files.verified(FOLDER / name, _manifest()[name]["sha256"], RESTORE)


def fingerprint() -> str:
    """A sha256 of the hashes of all files: other data, other fingerprint, whatever line ends a checkout gave
    the manifest."""
    return hashlib.sha256(files.json_text(_manifest()).encode()).hexdigest()


@lru_cache(1)
def _table() -> list[dict]:
    with open(_read("captions.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _sheets() -> dict[str, dict]:
    """The contact sheets of the manifest, in order. ValueError where they do not show each row of the table
    once: the picture of a row on no sheet would be whatever was in memory."""
    sheets = sorted((v["first"], v["count"], k) for k, v in _manifest().items() if "count" in v)
    before, row = "the beginning", 0
    for first, count, name in [*sheets, (len(_table()), 0, "the end")]:
        if first != row:
            fault = "too few" if first > row else "twice"
            raise ValueError(f"{FOLDER / 'manifest.json'} has a sheet {fault}: after {before} comes "
                             f"row {row}, and {name} begins with row {first}. {RESTORE}")
        before, row = name, first + count
    return {name: _manifest()[name] for _, _, name in sheets}


@lru_cache(1)
def _pictures() -> Tensor:
    """All pictures at 64 px, uint8 (10856, 3, 64, 64), cut from the contact sheets."""
    sheets = _sheets()
    with torch.inference_mode(False):  # the first caller may be in that mode; what it makes is then sealed
        out = torch.empty(len(_table()), 3, 64, 64, dtype=torch.uint8)

    def cut(item):
        name, entry = item
        sheet = np.array(Image.open(_read(name)))  # (rows * 64, 32 * 64, 3)
        tiles = torch.from_numpy(sheet).reshape(-1, 64, 32, 64, 3).permute(0, 2, 4, 1, 3).flatten(0, 1)
        out[entry["first"]:entry["first"] + entry["count"]] = tiles[:entry["count"]]

    with ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        list(pool.map(cut, sheets.items()))
    return out
