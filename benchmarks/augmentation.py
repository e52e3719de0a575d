"""Why small pictures are damaged in training. Writes benchmarks/augmentation.csv, which notebook 08 plots.

    python benchmarks/augmentation.py       # about half an hour on two CPU cores; goes on where it stopped

Two copies of Imagen's enlarger are trained for 2,000 more steps on the same pictures, texts, times and noise:
"damaged" as before, the small picture with a random share of noise in 0 .. 0.5; "clean" with none. Both then
enlarge small pictures for the held-out captions: those of the real pictures, and those that the first stage
drew. The clean one is told the share 0; the damaged one is given, and told, several shares. Three seeds.
"""
from collections import deque
from dataclasses import replace
from pathlib import Path

import table
import torch
from judging import Judge, draw, interval
from tqdm.auto import tqdm

from course_lib import data, features, metrics, recipes, train

STEPS, SEEDS, LEVELS = 2_000, 3, (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
PATH = Path(__file__).with_suffix(".csv")


def without_noise(stream):
    """The same batches with clean small pictures."""
    for batch in stream:
        clean = {"low_res": data.shrink(batch["x_0"], 4), "aug_level": torch.zeros(len(batch["x_0"]))}
        yield batch | clean


def go_on(kind: str, seed: int):
    """The shipped enlarger, trained further."""
    plan, model = recipes.get("imagen_enlarger"), recipes.load("imagen_enlarger")
    stream = plan.batches()
    stream = without_noise(stream) if kind == "clean" else stream
    ticks = train.fit(model, plan.loss, stream, STEPS, lr=5e-4, ema=0.99, seed=seed)
    return deque(tqdm(ticks, f"{kind}, {seed}", STEPS), maxlen=1).pop().ema.eval()


def main() -> None:
    rows = table.read(PATH)
    done = {(row["trained"], int(row["seed"])) for row in rows}
    judge, look, imagen = Judge("held_out"), features.emoji_features(), recipes.load("imagen")
    captions, every = judge.emoji.captions, torch.arange(len(judge.emoji))
    x = data.to_float(judge.emoji.pictures)
    real = look(x)
    first_stage = lambda texts, seed: imagen.intermediate(texts, seed=seed)
    for seed in range(SEEDS):
        small = {"real": data.shrink(x, 4), "generated": draw(first_stage, captions, 64, seed)}
        for kind in ("damaged", "clean"):
            if (kind, seed) in done:
                continue
            system = replace(imagen, enlarger=go_on(kind, seed))
            for source, low in small.items():
                for level in LEVELS if kind == "damaged" else (0.0,):
                    y = torch.cat([system.enlarge(low[i:i + 64], captions[i:i + 64], seed=1_000 * seed + i,
                                                  level=level) for i in range(0, len(low), 64)])
                    scores = {k: f"{interval(v, judge.concept)[0]:.2f}" for k, v in judge(y, every).items()}
                    rows.append({"trained": kind, "seed": seed, "small": source, "level": level, **scores,
                                 "frechet": f"{metrics.frechet(real, look(y)):.3f}"})
            table.write(PATH, rows)


if __name__ == "__main__":
    main()
