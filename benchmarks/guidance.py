"""How much guidance? Writes benchmarks/guidance.csv, which notebooks 05 and 06 plot.

    python benchmarks/guidance.py       # about half an hour on two CPU cores; goes on where it stopped

sd64 draws one picture for each caption of the held-out split, with four seeds, for each guidance scale w, in
12 steps of DPM-Solver++; from w = 3 on also with guidance at times t <= 600 only, and with 70 % of the
spread of x0 restored. "stochastic" takes 40 steps of DDPM, which adds fresh noise; "40 steps" is its control,
DPM-Solver++ again.
"""
from pathlib import Path

import table
import torch
from encoders import Judge, held
from tqdm.auto import tqdm

from course_lib import data, metrics, recipes
from course_lib.guidance import interval
from course_lib.samplers import ddpm

SCALES, SEEDS = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 14.0), 4
PATH = Path(__file__).with_suffix(".csv")
WHERE = {"plain": SCALES, "interval": SCALES[4:], "rescaled": SCALES[4:],  # the repairs are for large w
         "stochastic": (1.0, 1.5, 2.0, 3.0), "40 steps": (1.0, 1.5, 2.0)}  # 40 steps are slow


def how(variant: str, w: float, seed: int) -> dict:
    """The arguments of `StableDiffusion.generate`."""
    if variant == "stochastic":
        return {"w": w, "steps": 40, "step": ddpm(generator=torch.Generator().manual_seed(seed))}
    return {"steps": 40 if variant == "40 steps" else 12, "rescale": 0.7 if variant == "rescaled" else 0.0,
            "w": interval(w, 0, 600) if variant == "interval" else w}


@torch.inference_mode()
def draw(system, texts, variant, w, seed):
    """One picture for each text."""
    told = how(variant, w, seed)
    return torch.cat([system.generate(texts[i:i + 128], seed=1000 * seed + i, **told)
                      for i in range(0, len(texts), 128)])


def main() -> None:
    judge, which, real = Judge(), list(range(len(held.table))), data.to_float(held.pictures)
    system, texts = recipes.load("sd64"), [row["caption"] for row in held.table]
    features = lambda x: torch.cat([judge.classifier.features(part).detach() for part in x.split(64)])
    near = features(real)
    rows = table.read(PATH)
    rows = rows or [{"variant": "real", **judge(real, which)}]
    done = {(row["variant"], float(row["w"]), int(row["seed"])) for row in rows[1:]}
    runs = [(variant, w, seed) for variant in WHERE for w in WHERE[variant] for seed in range(SEEDS)]
    for variant, w, seed in tqdm([run for run in runs if run not in done]):
        x = draw(system, texts, variant, w, seed)
        overlap = metrics.precision_recall(near, features(x))
        rows.append({"variant": variant, "w": w, "seed": seed, **judge(x, which),
                     "precision": f"{overlap.precision:.4f}", "recall": f"{overlap.recall:.4f}",
                     "white": f"{(x > 0.99).float().mean():.4f}"})
        table.write(PATH, rows)


if __name__ == "__main__":
    main()
