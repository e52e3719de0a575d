"""What choosing by CLIP gains. Writes benchmarks/best_of_k.csv, which notebook 07 plots.

    python benchmarks/best_of_k.py          # about ten minutes on two CPU cores

DALL-E draws 32 pictures for one caption of each held-out concept. For k = 1, 2, 4 ... 32 the
draws are dealt into groups of k, and of each the picture is taken that `clip` finds nearest to the caption.
Measured by `clip` itself, by `clip_judge`, and by the classifier; intervals by drawing concepts.
"""
from pathlib import Path

import table
import torch
from judging import Judge, draw, interval
from tqdm.auto import tqdm

from course_lib import recipes

DRAWS, KS = 32, (1, 2, 4, 8, 16, 32)
PATH = Path(__file__).with_suffix(".csv")


@torch.inference_mode()
def main() -> None:
    judge, system = Judge("held_out"), recipes.load("dalle")
    first = {int(c): i for i, c in reversed(list(enumerate(judge.concept.tolist())))}
    rows = torch.tensor(sorted(first.values()))
    texts = [judge.emoji.captions[i] for i in rows.tolist()]
    scores = {}
    for seed in tqdm(range(DRAWS)):
        x = draw(system.generate, texts, seed=seed)
        near = 100 * (system.ranker.pictures(x) * system.ranker.texts(texts)).sum(1)
        for key, v in {"ranker": near, **judge(x, rows)}.items():
            scores.setdefault(key, []).append(v)
    scores = {key: torch.stack(v, dim=1) for key, v in scores.items()}  # (captions, DRAWS)
    found = []
    for k in KS:
        best = scores["ranker"].view(len(rows), -1, k).argmax(2, keepdim=True)
        for key, v in scores.items():
            chosen = v.view(len(rows), -1, k).gather(2, best)[:, :, 0].mean(1)  # one number a caption
            ends = zip(("mean", "low", "high"), interval(chosen, judge.concept[rows]), strict=True)
            found.append({"measure": key, "k": k, **{end: f"{value:.3f}" for end, value in ends}})
    table.write(PATH, found)


if __name__ == "__main__":
    main()
