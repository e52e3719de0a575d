"""All models against real pictures. Writes benchmarks/scoreboard.csv; notebooks 04, 06 and 08 plot it.

    python benchmarks/scoreboard.py         # about an hour on two CPU cores; goes on where it stopped
    python benchmarks/scoreboard.py sd64    # the models whose names begin so, anew; the other rows stay

For each of three seeds, the training pictures are cut into two halves at random. N pictures of half A, drawn
as in training (`Emoji.weights`), are the reference. N pictures of half B give the floor, real against real;
"real through ae64" and "real through vq64x2" are the same ones, encoded and decoded; and the systems that
read draw the captions of the same ones, with the settings of heldout.py (not the best of 8: too slow).
ldm64 draws its groups by their shares; "ldm64, autoguided" is led away from ldm64_weak (notebook 04).
The features are those of the emoji classifier and, in the columns with "imagenet", those of a network for
photographs. "copying" is the share of pictures that are nearer to half A than every tenth real picture of
half B is, in the first features: 10 % for real ones.

Models of 32 px meet real pictures that were shrunk to 32 px (reference "all 32"), and both are enlarged to 64
px for the classifier. faces32 meets faces, of which there are so few (reference "faces 32", N = 154) that its
Frechet distance says little; its floor says how little. In ImageNet's features, 1,280 numbers, that holds for
all: there, compare by KID.
"""
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import table
import torch
from heldout import SYSTEMS
from tqdm.auto import tqdm

from course_lib import data, features, metrics, recipes
from course_lib.samplers import dpmpp_2m, draw

N, SEEDS, STEPS, BATCH = 1024, 3, 20, 128
PATH = Path(__file__).with_suffix(".csv")
SETS = {"all 64": data.emoji(64), "all 32": data.emoji(32), "faces 32": data.emoji(32, "faces")}
# name -> (reference, network calls a sample, guidance scale)
MODELS = {"real, all 64": ("all 64", 0, ""), "real, all 32": ("all 32", 0, ""),
          "real, faces 32": ("faces 32", 0, ""), "real through ae64": ("all 64", 0, ""),
          "real through vq64x2": ("all 64", 0, ""),
          "faces32": ("faces 32", STEPS, ""), "all32": ("all 32", STEPS, ""), "vae64": ("all 64", 0, ""),
          "ldm64": ("all 64", STEPS, ""), "ldm64, autoguided": ("all 64", 2 * STEPS, 1.5),
          "sd64, w = 1": ("all 64", STEPS, 1.0), "sd64, w = 2": ("all 64", 2 * STEPS, 2.0),
          **{name: ("all 64", calls, "") for name, (what, _, told, calls) in SYSTEMS.items()
             if what != "sd64" and "best_of" not in told}}


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
        if "through" not in name:
            return x
        codec = recipes.load(name.split()[-1])
        return torch.cat([codec.decode(codec.encode(part)) for part in x.split(64)])
    if name.startswith("sd64") or name in SYSTEMS:
        what, options, told, _ = SYSTEMS.get(name, ("sd64", {}, {"steps": STEPS, "w": MODELS[name][2]}, 0))
        system, texts = recipes.load(what, **options), [emoji.captions[i] for i in which.tolist()]
        return torch.cat([system.generate(texts[i:i + BATCH], seed=100 * seed + i, **told)
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


def copying(real: torch.Tensor, other: torch.Tensor, fake: torch.Tensor) -> float:
    """The share of fake features that are nearer to real ones than every tenth of `other`, real ones, too."""
    near = lambda x: torch.cdist(x, real).amin(1)
    return (near(fake) < near(other).quantile(0.1)).float().mean().item()


def score(name: str, seed: int, look, photo, clip) -> dict:
    """One row of the table."""
    reference, calls, w = MODELS[name]
    emoji = SETS[reference]
    a, b = halves(emoji, seed)
    x = pictures(name, b, seed).clamp(-1, 1)
    real, other, fake = (look(p) for p in (*(data.to_float(emoji.pictures[i]) for i in (a, b)), x))
    far = {"frechet_imagenet": "", "kid_imagenet": ""}
    if reference == "all 64":
        photos = photo(data.to_float(emoji.pictures[a])), photo(x)
        far = {"frechet_imagenet": f"{metrics.frechet(*photos):.2f}",
               "kid_imagenet": f"{metrics.kid(*photos, subsets=1)[0]:.5f}"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the faces are fewer than the features is said above
        distance = metrics.frechet(real, fake)
    overlap = metrics.precision_recall(real, fake)
    agreement = ""
    if reference == "all 64" and (name in SYSTEMS or name.startswith(("sd64", "real"))):  # given captions
        texts = [emoji.captions[i] for i in b.tolist()]
        with torch.inference_mode():
            pairs = zip(x.split(64), (texts[i:i + 64] for i in range(0, len(x), 64)), strict=True)
            scores = torch.cat([metrics.clip_score(clip.pictures(p), clip.texts(t)) for p, t in pairs])
        agreement = f"{scores.mean():.2f}"
    return {"model": name, "reference": reference, "w": w, "seed": seed, "n": len(x), "calls": calls,
            "frechet": f"{distance:.3f}", "kid": f"{metrics.kid(real, fake, subsets=1)[0]:.5f}",
            **{k: f"{v:.4f}" for k, v in overlap._asdict().items()}, "judge": agreement,
            **far, "copying": f"{copying(real, other, fake):.3f}"}


def main(anew: list[str]) -> None:
    rows = table.read(PATH)
    rows = [row for row in rows if not any(row["model"].startswith(name) for name in anew)]
    done = {(row["model"], int(row["seed"])) for row in rows}
    there = [name for name in MODELS if name not in SYSTEMS or SYSTEMS[name][0] in recipes.SHIPPED.cards()]
    todo = [(name, seed) for name in there for seed in range(SEEDS) if (name, seed) not in done]
    look, photo, clip = features.emoji_features(), features.imagenet_features(), recipes.load("clip_judge")
    order = list(MODELS)
    for name, seed in tqdm(todo):
        rows.append(score(name, seed, look, photo, clip))
        rows.sort(key=lambda row: (order.index(row["model"]), int(row["seed"])))
        table.write(PATH, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
