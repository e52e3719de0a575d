"""Does the prior earn its place? Writes benchmarks/prior.csv, which notebook 07 plots.

    python benchmarks/prior.py              # about ten minutes on two CPU cores

The decoder of `unclip`, told an embedding and no text, draws two pictures for every held-out caption; in the
last two rows it is told the caption, alone and beside the embedding of the diffusion prior. The embedding is
that of the real picture; or drawn by one of the priors for the caption; or the caption's own; or that, moved
by the mean difference between pictures and captions of the training split; or, for a chance line, that of
the real picture of another row. Intervals by drawing concepts; of KID, by drawing pictures.
"""
from pathlib import Path

import table
import torch
from judging import Judge, interval
from torch.nn import functional as F
from tqdm.auto import tqdm

from course_lib import data, features, metrics, recipes
from course_lib.recipes.unclip import embeddings

SEEDS = 2
PATH = Path(__file__).with_suffix(".csv")


def mean_gap(clip) -> torch.Tensor:
    """From captions to pictures of the training split, each as often as it is drawn in training."""
    emoji = data.emoji(64)
    e, share = embeddings("train"), (emoji.weights() / emoji.weights().sum()).float()
    texts = torch.cat([clip.texts(emoji.captions[i:i + 512]) for i in range(0, len(emoji), 512)])
    return share @ (e - texts)


def spread(real, fake, draws: int = 100) -> tuple[float, float, float]:
    """KID and its 95 % interval, by drawing the generated pictures anew."""
    g = torch.Generator().manual_seed(0)
    values = torch.tensor([metrics.kid(real, fake[torch.randperm(len(fake), generator=g)[:len(fake) // 2]],
                                       subsets=1)[0] for _ in range(draws)])
    middle = metrics.kid(real, fake, subsets=1)[0]
    return middle, *(middle + (values.quantile(q) - values.mean()).item() / 2**0.5 for q in (0.025, 0.975))


@torch.inference_mode()
def main() -> None:
    judge, look = Judge("held_out"), features.emoji_features()
    system, ar = recipes.load("unclip"), recipes.load("unclip", prior="autoregressive")
    clip, captions, every = system.text_encoder, judge.emoji.captions, torch.arange(len(judge.emoji))
    true, text = embeddings("held_out"), clip.texts(captions)
    real = look(data.to_float(judge.emoji.pictures))
    moved = F.normalize(text + mean_gap(clip), dim=1)
    other = every.roll(173)
    sources = {"the real picture's embedding": lambda seed: true,
               "diffusion prior": lambda seed: system.intermediate(captions, seed),
               "autoregressive prior": lambda seed: ar.intermediate(captions, seed),
               "the text's + mean gap": lambda seed: moved, "the text's own": lambda seed: text,
               "another picture's (chance)": lambda seed: true[other],
               "the caption alone": lambda seed: torch.zeros_like(true)}
    sources["the caption + diffusion prior"] = sources["diffusion prior"]
    rows = []
    for name, source in tqdm(sources.items()):
        scores, fake = {}, []
        for seed in range(SEEDS):
            e = source(seed)
            texts = captions if name.startswith("the caption") else None
            x = torch.cat([system.picture(e[i:i + 64], texts and texts[i:i + 64], seed=1_000 * seed + i)
                           for i in range(0, len(e), 64)])
            fake.append(look(x))
            for key, v in judge(x, every).items():
                scores.setdefault(key, []).append(v)
        row = {"source": name}
        found = {k: interval(torch.stack(v).mean(0), judge.concept) for k, v in scores.items()}
        for key, (mean, low, high) in {**found, "kid": spread(real, torch.cat(fake))}.items():
            row |= {key: f"{mean:.4f}", f"{key}_low": f"{low:.4f}", f"{key}_high": f"{high:.4f}"}
        rows.append(row)
        table.write(PATH, rows)


if __name__ == "__main__":
    main()
