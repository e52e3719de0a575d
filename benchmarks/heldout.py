"""All systems on the same held-out captions. Writes benchmarks/heldout.csv, which notebook 08 plots.

    python benchmarks/heldout.py            # about half an hour on two CPU cores; goes on where it stopped
    python benchmarks/heldout.py imagen     # the systems whose names begin so, anew

Two pictures for each of the 347 captions, with the settings that dials.py found best on other captions. One
row for each system and concept: the means over that concept's pictures, so that intervals can be found by
drawing concepts. "real" are the pictures whose captions these are. "copying" is the distance, in the features
of our classifier, to the nearest training picture; "seconds" are for one picture at a time, on this machine,
with two threads.
"""
import sys
import time
from pathlib import Path

import table
import torch
from judging import Judge, draw
from tqdm.auto import tqdm

from course_lib import data, features, recipes

SEEDS = 2
PATH = Path(__file__).with_suffix(".csv")
SYSTEMS = {  # name -> (what is loaded, options of load, settings of generate, network calls a picture)
    "Stable Diffusion": ("sd64", {}, {"w": 2.0}, 40),
    "DALL-E": ("dalle", {}, {}, 128),
    "DALL-E, best of 8": ("dalle", {}, {"best_of": 8}, 8 * 128),
    "DALL-E, masked": ("maskgit", {}, {}, 24),
    "DALL-E 2, diffusion prior": ("unclip", {}, {}, 80),
    "DALL-E 2, autoregressive prior": ("unclip", {"prior": "autoregressive"}, {}, 72),
    "Imagen": ("imagen", {}, {}, 60),
}


def seconds(generate, text: str) -> float:
    """The time that one picture takes, the least of three."""
    took = []
    for seed in range(3):
        start = time.perf_counter()
        generate([text], seed=seed)
        took.append(time.perf_counter() - start)
    return min(took)


@torch.inference_mode()
def main(anew: list[str]) -> None:
    rows = [row for row in table.read(PATH) if not any(row["system"].startswith(name) for name in anew)]
    done, judge, look = {row["system"] for row in rows}, Judge("held_out"), features.emoji_features()
    every = torch.arange(len(judge.emoji))
    train = torch.cat([look(data.to_float(part)) for part in data.emoji(64).pictures.split(512)])
    for name in tqdm(["real", *SYSTEMS]):
        if name in done or (name != "real" and SYSTEMS[name][0] not in recipes.SHIPPED.cards()):
            continue
        if name == "real":
            drawn, spent, calls = [data.to_float(judge.emoji.pictures)], 0.0, 0
        else:
            what, options, told, calls = SYSTEMS[name]
            system = recipes.load(what, **options)
            generate = lambda texts, seed, s=system, t=told: s.generate(texts, seed=seed, **t)
            spent = seconds(generate, judge.emoji.captions[0])
            drawn = [draw(generate, judge.emoji.captions, 32, k) for k in tqdm(range(SEEDS), leave=False)]
        scores = {}
        for x in drawn:
            found = judge(x, every) | {"copying": torch.cdist(look(x), train).amin(1)}
            for key, v in found.items():
                scores.setdefault(key, []).append(v)
        scores = {key: torch.stack(v).mean(0) for key, v in scores.items()}
        for number, concept in enumerate(judge.concepts):
            own = judge.concept == number
            rows.append({"system": name, "concept": concept, "n": int(own.sum()) * len(drawn), "calls": calls,
                         "seconds": f"{spent:.2f}", **{k: f"{v[own].mean():.3f}" for k, v in scores.items()}})
        table.write(PATH, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
