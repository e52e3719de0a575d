"""How near copies by ae64 and vq64 come to new pictures. Writes benchmarks/codecs.csv; notebook 04 prints it.

    python benchmarks/codecs.py      # about five minutes on one CPU core

All pictures of the validation split, their concepts new to both codecs. search = 0 is one pass of the
encoder; beyond, so many steps of `autoencoder.refine` follow, which leave the decoder as it is. For vq64 the
latents stay on the grid, so what is found are tokens again.
"""
from pathlib import Path

import table
import torch
from tqdm.auto import tqdm

from course_lib import data, recipes
from course_lib.autoencoder import refine

SEARCH = (0, 30, 50)
PATH = Path(__file__).with_suffix(".csv")


def psnr(codec, x: torch.Tensor, search: int) -> torch.Tensor:
    """PSNR of each picture's copy in dB, (B,), clipped to what can be shown."""
    snap = getattr(codec, "snap", lambda z: z)
    z = refine(codec, x, search, snap=snap)
    with torch.inference_mode():
        return 10 * torch.log10(4 / ((codec.decode(z).clamp(-1, 1) - x) ** 2).mean((1, 2, 3)))


def main() -> None:
    x, rows = data.to_float(data.emoji(64, split="val").pictures), []
    for name in ("ae64", "vq64"):
        codec = recipes.load(name)
        for search in SEARCH:
            parts = tqdm(x.split(58), desc=f"{name}, {search}")
            db = torch.cat([psnr(codec, part, search) for part in parts])
            rows.append({"codec": name, "search": search, "pictures": len(db), "psnr": f"{db.mean():.2f}",
                         "standard_error": f"{db.std() / len(db) ** 0.5:.2f}"})
            table.write(PATH, rows)


if __name__ == "__main__":
    main()
