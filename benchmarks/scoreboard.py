"""All models so far against real pictures. Writes benchmarks/scoreboard.csv, which notebook 06 plots.

    python benchmarks/scoreboard.py         # about twelve minutes on two CPU cores; goes on where it stopped
    python benchmarks/scoreboard.py sd64    # the models whose names begin so, anew; the other rows stay

For each of three seeds, the training pictures are cut into two halves at random. N pictures of half A, drawn
as in training (`Emoji.weights`), are the reference. N pictures of half B give the floor, real against real;
"real through ae64" are the same ones, encoded and decoded; and sd64 draws the captions of the same ones.
ldm64 draws its groups by their shares; "ldm64, autoguided" is led away from ldm64_weak (notebook 04).
The features are those of the emoji classifier. Models of 32 px meet real pictures that were shrunk to 32 px
(reference "all 32"), and both are enlarged to 64 px for the classifier. faces32 meets faces, of which there
are so few (reference "faces 32", N = 154) that its Frechet distance says little; its floor says how little.
"""
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import table
import torch
from tqdm.auto import tqdm

from course_lib import data, features, metrics, recipes
from course_lib.samplers import dpmpp_2m, draw

N, SEEDS, STEPS, BATCH = 1024, 3, 20, 128
PATH = Path(__file__).with_suffix(".csv")
SETS = {"all 64": data.emoji(64), "all 32": data.emoji(32), "faces 32": data.emoji(32, "faces")}
# name -> (reference, network calls a sample, guidance scale)
MODELS = {"real, all 64": ("all 64", 0, ""), "real, all 32": ("all 32", 0, ""),
          "real, faces 32": ("faces 32", 0, ""), "real through ae64": ("all 64", 0, ""),
          "faces32": ("faces 32", STEPS, ""), "all32": ("all 32", STEPS, ""), "vae64": ("all 64", 0, ""),
          "ldm64": ("all 64", STEPS, ""), "ldm64, autoguided": ("all 64", 2 * STEPS, 1.5),
          "sd64, w = 1": ("all 64", STEPS, 1.0), "sd64, w = 2": ("all 64", 2 * STEPS, 2.0)}


def halves(emoji: data.Emoji, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers of N pictures (or of all there are) of either half."""
    g, weights = torch.Generator().manual_seed(seed), emoji.weights()
    cut = torch.randperm(len(emoji), generator=g).split(len(emoji) // 2)
    return tuple(half[torch.multinomial(weights[half], min(N, len(half)), generator=g)] for half in cut[:2])


@torch.inference_mode()
def latent_diffusion(w: float, n: int, seed: int) -> torch.Tensor:
    """n pictures of ldm64, led away from ldm64_weak with scale w; w = 1 is ldm64 alone."""
    system = replace(recipes.load("ldm64"), weaker=recipes.load("ldm64_weak").denoiser)
    schedule, out = system.denoiser.schedule, []
    parts = zip(system.start(n, seed).split(BATCH), system.labels(n, seed).split(BATCH), strict=True)
    for x, label in tqdm(list(parts), leave=False):
        out.append(system.decoder.decode(draw(system.guided(label, w), schedule, x, STEPS, dpmpp_2m())))
    return torch.cat(out)


@torch.inference_mode()
def pictures(name: str, which: torch.Tensor, seed: int) -> torch.Tensor:
    """As many pictures as `which` has rows, of one model."""
    emoji, n = SETS[MODELS[name][0]], len(which)
    if name.startswith("real"):
        x = data.to_float(emoji.pictures[which])
        if "ae64" not in name:
            return x
        codec = recipes.load("ae64")
        return torch.cat([codec.decode(codec.encode(part)) for part in x.split(64)])
    if name.startswith("sd64"):
        system, texts = recipes.load("sd64"), [emoji.captions[i] for i in which.tolist()]
        return torch.cat([system.generate(texts[i:i + BATCH], STEPS, MODELS[name][2], seed=100 * seed + i)
                          for i in tqdm(range(0, n, BATCH), leave=False)])
    if name.startswith("ldm64"):
        return latent_diffusion(MODELS[name][2] or 1, n, seed)
    model = recipes.load(name)
    if name == "vae64":
        z = torch.randn(n, 8, 8, 8, generator=torch.Generator().manual_seed(seed))
        return torch.cat([model.decoder(part) for part in z.split(64)])
    noise = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return torch.cat([draw(model, model.schedule, x, STEPS, dpmpp_2m())
                      for x in tqdm(noise.split(BATCH), leave=False)])


def score(name: str, seed: int, look, clip) -> dict:
    """One row of the table."""
    reference, calls, w = MODELS[name]
    emoji = SETS[reference]
    a, b = halves(emoji, seed)
    x = pictures(name, b, seed).clamp(-1, 1)
    real, fake = look(data.to_float(emoji.pictures[a])), look(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the faces are fewer than the features is said above
        distance = metrics.frechet(real, fake)
    overlap = metrics.precision_recall(real, fake)
    agreement = ""
    if reference == "all 64" and name.startswith(("sd64", "real")):  # whoever was given captions
        texts = [emoji.captions[i] for i in b.tolist()]
        with torch.inference_mode():
            pairs = zip(x.split(64), (texts[i:i + 64] for i in range(0, len(x), 64)), strict=True)
            scores = torch.cat([metrics.clip_score(clip.pictures(p), clip.texts(t)) for p, t in pairs])
        agreement = f"{scores.mean():.2f}"
    return {"model": name, "reference": reference, "w": w, "seed": seed, "n": len(x), "calls": calls,
            "frechet": f"{distance:.3f}", "kid": f"{metrics.kid(real, fake, subsets=1)[0]:.5f}",
            **{k: f"{v:.4f}" for k, v in overlap._asdict().items()}, "clip_score": agreement}


def main(anew: list[str]) -> None:
    rows = table.read(PATH)
    rows = [row for row in rows if not any(row["model"].startswith(name) for name in anew)]
    done = {(row["model"], int(row["seed"])) for row in rows}
    todo = [(name, seed) for name in MODELS for seed in range(SEEDS) if (name, seed) not in done]
    look, clip, order = features.emoji_features(), recipes.load("clip"), list(MODELS)
    for name, seed in tqdm(todo):
        rows.append(score(name, seed, look, clip))
        rows.sort(key=lambda row: (order.index(row["model"]), int(row["seed"])))
        table.write(PATH, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
