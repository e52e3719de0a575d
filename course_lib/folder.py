"""Your own pictures: a folder of picture files becomes a data set like that of `data.emoji`.

A file is turned as its note says (EXIF), laid on white where it is transparent, made square, and averaged:

    small[i, j] = mean of the large picture over the area of pixel (i, j)

Pictures that are nearly the same (saved twice, mirrored, brightened) form a group. A group is never divided
between training and new pictures, and in a batch it counts less than as many different pictures
(`Emoji.weights`). The same distance, from samples to training pictures, is what copying is measured with.
"""
import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from . import checks
from .data import Emoji, to_float

SQUARES = "crop", "pad"
FEWEST, SMALLEST = 20, 8  # pictures in a folder; pixels along an edge
LIMIT = 0.1  # pictures nearer than this are taken for the same one
UNREADABLE = {".heic": "iPhones save it", ".heif": "phones save it", ".svg": "a drawing made of lines",
              ".pdf": "a document", ".psd": "a file of Photoshop", ".mov": "a film", ".mp4": "a film"}


@checks.typed
@dataclass(frozen=True)
class Folder(Emoji):
    """A data set from files. table: one dict a picture, with "file", "caption" (the file's name in words) and
    "concept" (its group; before `split`, the file). left_out: file -> why it could not be used."""
    left_out: dict[str, str]

    @checks.typed
    def split(self, share: float = 0.15, limit: float = LIMIT) -> tuple["Folder", "Folder"]:
        """(training pictures, new pictures). At most `share` of the pictures are new, and none of them has a
        near copy among the others: groups, as `groups` finds them with this limit, stay whole.

        Which ones are new depends on the files' names alone. Raises ValueError where a part would be empty.
        """
        checks.number(share, 0, 1, "share")
        members: dict[int, list[int]] = {}
        for i, number in enumerate(groups(self.pictures, limit).tolist()):
            members.setdefault(number, []).append(i)
        coin = lambda rows: hashlib.sha256(self.table[rows[0]]["file"].encode()).hexdigest()
        new: set[int] = set()
        for rows in sorted(members.values(), key=coin):
            if len(new) + len(rows) <= share * len(self):
                new |= set(rows)
        if not 0 < len(new) < len(self):
            raise ValueError(
                f"share = {share:g} of {len(self)} pictures in {len(members)} groups of near copies leaves "
                f"{len(new)} new ones: 0.15 is usual. Or lower limit, {limit:g}, so that fewer pictures are "
                "taken for copies; or add pictures.")
        table = list(self.table)
        for number, rows in members.items():
            for i in rows:
                table[i] = {**table[i], "concept": f"group {number}"}

        def part(rows):
            return Folder(self.pictures[rows], [table[i] for i in rows], self.left_out)
        return part([i for i in range(len(self)) if i not in new]), part(sorted(new))


@checks.typed
def read(path: str | Path, size: int = 32, square: str = "crop", fewest: int = FEWEST) -> Folder:
    """All pictures of a folder and its subfolders, uint8 (N, 3, size, size), in the order of their names.

    square: "crop" keeps the middle of a long picture, "pad" puts all of it on a white square. Files that
    cannot be used are named on stderr and in `left_out`; hidden ones are passed over. Raises
    FileNotFoundError where there is no folder, ValueError where fewer than `fewest` pictures can be used.
    """
    checks.whole(size, SMALLEST, what="size")
    checks.choice(square, SQUARES, "square")
    checks.counts(fewest=fewest)
    path = Path(path).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}. Give the folder that holds your pictures; a zip "
                                "file must be unpacked first.")
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    names = [name for name in names if not any(p.startswith((".", "__MACOSX")) for p in name.split("/"))]
    with ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        found = list(pool.map(lambda name: _picture_or_reason(path / name, size, square), names))
    kept = {name: x for name, x in zip(names, found, strict=True) if torch.is_tensor(x)}
    left_out = {name: x for name, x in zip(names, found, strict=True) if not torch.is_tensor(x)}
    if len(kept) < fewest:
        raise ValueError(
            f"{path} has {len(names)} files, and {len(kept)} of them are pictures that can be used: training "
            f"needs at least {fewest}, and some 200 to draw anything new. Add pictures (PNG and JPEG are "
            f"safe), or give the folder above: subfolders are searched.{_listed(left_out)}")
    if left_out:
        print(f"{len(kept)} pictures.{_listed(left_out)}", file=sys.stderr)
    table = [{"file": name, "caption": _words(name), "concept": name} for name in kept]
    return Folder(torch.stack(list(kept.values())), table, left_out)


@checks.typed
def picture(path: str | Path, size: int = 32, square: str = "crop") -> Tensor:
    """One file as `read` gives it, uint8 (3, size, size); of a moving picture the first frame. Raises
    ValueError or what Pillow raises, such as UnidentifiedImageError, where it cannot be used."""
    checks.whole(size, SMALLEST, what="size")
    checks.choice(square, SQUARES, "square")
    with Image.open(path) as image:
        image = _on_white(_upright(image))
    if min(image.size) < SMALLEST:
        raise ValueError(f"it has only {image.width} x {image.height} pixels")
    edge = (min if square == "crop" else max)(image.size)
    k = max(1, edge // (8 * size))  # a large one is averaged over k x k pixels first, to save memory
    edge = edge // k * k if square == "crop" else -(-edge // k) * k
    board = Image.new("RGB", (edge, edge), "white")
    board.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    x = torch.from_numpy(np.array(board.reduce(k))).permute(2, 0, 1).double()
    share = areas(edge // k, size)
    return (share @ x @ share.T + 0.5 + 1e-9).floor().to(torch.uint8)  # halves go up, as in `data.shrink`


@checks.typed
def areas(n: int, size: int) -> Tensor:
    """A row of n pixels above a row of `size` pixels of the same length: how much of each lower pixel lies
    under each upper one, (size, n), float64. Each row sums to 1: areas(n, size) @ x are means of x (n,)."""
    checks.counts(n=n, size=size)
    i, j = torch.arange(size)[:, None], torch.arange(n)
    common = torch.minimum((i + 1) * n, (j + 1) * size) - torch.maximum(i * n, j * size)
    return common.clamp(min=0).double() / n


@checks.typed
def distances(x: Tensor, among: Tensor, flips: bool = True, shifts: int = 0) -> Tensor:
    """How far each of x (B, 3, H, W) is from each of among (N, 3, H, W), all in [-1, 1]: (B, N), the root of
    the mean squared difference over all 3 H W numbers.

    flips: as it is or mirrored, whichever is nearer. shifts: also moved on white by up to so many pixels.
    """
    if checks.pictures(x, what="x").shape[1:] != checks.pictures(among, what="among").shape[1:]:
        raise ValueError("x and among must be pictures of one size, given "
                         f"{tuple(x.shape)} and {tuple(among.shape)}")
    checks.whole(shifts, 0, min(x.shape[2:]), "shifts")
    h, w = x.shape[2:]
    middle = among.mean(0)  # around 0, rounding is least
    best = torch.full((len(x), len(among)), torch.inf, device=x.device)
    wide = F.pad(x, (shifts, shifts, shifts, shifts), value=1.0)
    for dy in range(2 * shifts + 1):
        for dx in range(2 * shifts + 1):
            moved = wide[..., dy:dy + h, dx:dx + w]
            for y in (moved, moved.flip(3)) if flips else (moved,):
                d = torch.cdist((y - middle).flatten(1), (among - middle).flatten(1))
                best = torch.minimum(best, d / middle.numel() ** 0.5)
    return best


@checks.typed
def groups(pictures: Tensor, limit: float = LIMIT) -> Tensor:
    """The group of each of the pictures, uint8 (N, 3, H, W) -> (N,) in 0, 1, ...

    Two pictures nearer than `limit`, as they are or mirrored, are in one group, and so are all that others
    link. It looks at all pairs: good for some 10,000 pictures."""
    checks.number(limit, 0, what="limit")
    x, links = to_float(pictures), []
    for first in range(0, len(x), 256):
        near = (distances(x[first:first + 256], x) < limit).nonzero()
        links.append(near + torch.tensor([first, 0]))
    i, j = torch.cat(links).T
    label = torch.arange(len(x))
    while True:  # everyone takes the lowest number among those linked to it, until nothing changes
        lower = label.scatter_reduce(0, i, label[j], "amin")
        if torch.equal(lower, label):
            return label.unique(return_inverse=True)[1]
        label = lower


def _picture_or_reason(path: Path, size: int, square: str) -> Tensor | str:
    """The picture, or why there is none."""
    try:
        return picture(path, size, square)
    except UnidentifiedImageError:
        ending = path.suffix.lower()
        if path.stat().st_size == 0:
            return "the file is empty"
        if ending in UNREADABLE:
            return f"{ending[1:].upper()}, {UNREADABLE[ending]}: export it as PNG or JPEG"
        return "no picture"
    except Exception as error:  # a damaged file can make a decoder raise anything
        return str(error) or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its note says; as it is, where the note is damaged."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever the note made Pillow raise: the picture itself is whole
        return image


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, 8 bits a number, on white where the picture is transparent."""
    if image.mode == "F":
        raise ValueError("its numbers have decimals: save it with 8 bits")
    if image.mode.startswith("I"):  # grey with more than 8 bits
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its numbers are not in 0 .. 65535: save it with 8 bits")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _listed(left_out: dict[str, str]) -> str:
    """The files that could not be used, at most five of them, as a sentence."""
    some = [f"{name} ({why})" for name, why in list(left_out.items())[:5]]
    more = [f"and {len(left_out) - 5} more"] * (len(left_out) > 5)
    return f" Left out: {'; '.join(some + more)}." if left_out else ""


def _words(name: str) -> str:
    """The file's name without folder, ending and numbers: "phone/red_fish-07.jpg" -> "red fish"."""
    words = Path(name).stem.replace("_", " ").replace("-", " ").split()
    return " ".join(word for word in words if not word.isdigit()) or Path(name).stem
