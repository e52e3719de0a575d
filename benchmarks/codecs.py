"""How near copies by ae64 and vq64 come to new pictures. Writes benchmarks/codecs.csv; notebook 04 prints it.

    python benchmarks/codecs.py      # about five minutes on one CPU core

All pictures of the validation split, their concepts new to both codecs. search = 0 is one pass of the
encoder; beyond, so many steps of `optimize_latents` follow, which leave the decoder as it is. For vq64 the
latents stay on the grid, so what is found are tokens again.
"""
from pathlib import Path

import table
import torch
from tqdm.auto import tqdm

from course_lib import data, recipes
from course_lib.metrics import psnr
from course_lib.nets.autoencoder import optimize_latents

SEARCH = (0, 30, 50)
PATH = Path(__file__).with_suffix(".csv")


def copied(codec, x: torch.Tensor, search: int) -> torch.Tensor:
    """PSNR of each picture's copy in dB, (B,)."""
    z = optimize_latents(codec, x, search, quantize=getattr(codec, "quantize", lambda z: z))
    with torch.inference_mode():
        return psnr(codec.decode(z), x)


def main() -> None:
    x, rows = data.to_float(data.emoji(64, split="val").pictures), []
    for name in ("ae64", "vq64"):
        codec = recipes.load(name)
        for search in SEARCH:
            parts = tqdm(x.split(58), desc=f"{name}, {search}")
            db = torch.cat([copied(codec, part, search) for part in parts])
            rows.append({"codec": name, "search": search, "pictures": len(db), "psnr": f"{db.mean():.2f}",
                         "standard_error": f"{db.std() / len(db) ** 0.5:.2f}"})
            table.write(PATH, rows)


if __name__ == "__main__":
    main()
