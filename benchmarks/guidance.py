"""How much guidance? Writes benchmarks/guidance.csv, which notebooks 05 and 06 plot.

    python benchmarks/guidance.py         # about 15 minutes on two CPU cores

sd64 draws one picture for each caption of the held-out split, with four seeds, for each guidance scale w;
from w = 3 on also with guidance at times t <= 600 only, and with 70 % of the spread of x0 restored.
"""
import csv
from pathlib import Path

import torch
from encoders import Judge, held
from tqdm.auto import tqdm

from course_lib import data, metrics, recipes
from course_lib.denoiser import interval

SCALES, SEEDS, STEPS = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 14.0), 4, 12
VARIANTS = {"plain": lambda w: (w, 0.0), "interval": lambda w: (interval(w, 0, 600), 0.0),
            "rescaled": lambda w: (w, 0.7)}


@torch.inference_mode()
def draw(system, texts, w, rescale, seed):
    """One picture for each text."""
    return torch.cat([system.generate(texts[i:i + 128], STEPS, w, seed=1000 * seed + i, rescale=rescale)
                      for i in range(0, len(texts), 128)])


def main() -> None:
    system, judge, which = recipes.load("sd64"), Judge(), list(range(len(held.table)))
    texts, rows = [row["caption"] for row in held.table], []
    features = lambda x: torch.cat([judge.classifier.features(part).detach() for part in x.split(64)])
    real = data.to_float(held.pictures)
    near = features(real)
    rows.append({"variant": "real", **judge(real, which)})
    runs = [(v, w, s) for v in VARIANTS for w in SCALES for s in range(SEEDS) if v == "plain" or w >= 3]
    for variant, w, seed in tqdm(runs):
        x = draw(system, texts, *VARIANTS[variant](w), seed)
        overlap = metrics.precision_recall(near, features(x))
        rows.append({"variant": variant, "w": w, "seed": seed, **judge(x, which),
                     "precision": f"{overlap.precision:.4f}", "recall": f"{overlap.recall:.4f}",
                     "white": f"{(x > 0.99).float().mean():.4f}"})
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, rows[-1], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
