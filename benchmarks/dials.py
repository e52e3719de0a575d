"""Which guidance, and how freely to draw? Writes benchmarks/dials.csv.

    python benchmarks/dials.py              # about half an hour on two CPU cores; goes on where it stopped
    python benchmarks/dials.py imagen       # the systems whose names begin so, anew

Every system draws one picture for each caption of the validation split, with each setting. What is chosen
here is reported on other captions, those of the held-out split (heldout.py): the setting whose pictures agree
best with the captions, in the eyes of the judge, unless another comes as near and is nearer to the real ones.
"""
import sys
from itertools import product
from pathlib import Path

import table
import torch
from judging import Judge, draw, interval
from tqdm.auto import tqdm

from course_lib import data, features, metrics, recipes
from course_lib.guidance import clip_x0, dynamic_threshold

PATH = Path(__file__).with_suffix(".csv")
GRIDS = {
    "sd64": {"w": (1.0, 1.5, 2.0, 3.0, 5.0)},
    "dalle": {"w": (1.0, 1.5, 2.0, 3.0, 5.0), "top_p": (0.8, 0.9, 1.0)},
    "maskgit": {"w": (1.0, 2.0, 3.0, 5.0), "steps": (12,), "doubt": (1.0, 3.0, 6.0)},
    "unclip": {"w": (1.0, 1.5, 2.0, 3.0, 5.0), "prior_w": (1.0, 2.0)},
    "imagen": {"w": (1.0, 1.5, 2.0, 3.0, 5.0), "large_w": (1.0, 2.0), "level": (0.1,)},
    "imagen, level": {"w": (2.0,), "level": (0.0, 0.05, 0.1, 0.2, 0.4)},
    "imagen, threshold": {"w": (2.0, 5.0, 10.0), "threshold": (None, clip_x0, dynamic_threshold)},
}


def main(anew: list[str]) -> None:
    rows = [row for row in table.read(PATH) if not any(row["system"].startswith(name) for name in anew)]
    done = {(row["system"], row["setting"]) for row in rows}
    judge, look = Judge("val"), features.emoji_features()
    real, every = look(data.to_float(judge.emoji.pictures)), torch.arange(len(judge.emoji))
    for name, grid in GRIDS.items():
        if name.split(",")[0] not in recipes.SHIPPED.cards():
            continue
        system = recipes.load(name.split(",")[0])
        for values in tqdm(list(product(*grid.values())), name):
            told = dict(zip(grid, values, strict=True))
            setting = ", ".join(f"{k} {getattr(v, '__name__', v)}" for k, v in told.items())
            if (name, setting) in done:
                continue
            generate = lambda texts, seed, s=system, t=told: s.generate(texts, seed=seed, **t)
            x = draw(generate, judge.emoji.captions)
            scores = {k: f"{interval(v, judge.concept)[0]:.2f}" for k, v in judge(x, every).items()}
            rows.append({"system": name, "setting": setting, **scores,
                         "frechet": f"{metrics.frechet(real, look(x)):.2f}"})
            table.write(PATH, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
