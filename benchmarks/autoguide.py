"""ldm64 led away from its weaker version, w by w. Writes benchmarks/autoguide.csv, which notebook 04 plots.

    python benchmarks/autoguide.py      # about ten minutes on two CPU cores; goes on where it stopped

The reference, the features and the number of samples are those of scoreboard.py, seeds too. w = 0 is the
weak model alone, w = 1 is ldm64 alone.
"""
from pathlib import Path

import table
from scoreboard import SEEDS, SETS, N, halves, latent_diffusion
from tqdm.auto import tqdm

from course_lib import data, features, metrics

SCALES = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
PATH = Path(__file__).with_suffix(".csv")


def main() -> None:
    rows = table.read(PATH)
    done = {(float(row["w"]), int(row["seed"])) for row in rows}
    look, emoji = features.emoji_features(), SETS["all 64"]
    for w, seed in tqdm([(w, seed) for w in SCALES for seed in range(SEEDS) if (w, seed) not in done]):
        a, _ = halves(emoji, seed)
        real = look(data.to_float(emoji.pictures[a]))
        fake = look(latent_diffusion(w, N, seed).clamp(-1, 1))
        overlap = metrics.precision_recall(real, fake)
        rows.append({"w": w, "seed": seed, "frechet": f"{metrics.frechet(real, fake):.3f}",
                     "kid": f"{metrics.kid(real, fake, subsets=1)[0]:.5f}",
                     "precision": f"{overlap.precision:.4f}", "recall": f"{overlap.recall:.4f}"})
        rows.sort(key=lambda row: (float(row["w"]), int(row["seed"])))
        table.write(PATH, rows)


if __name__ == "__main__":
    main()
