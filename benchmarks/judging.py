"""What is asked of a picture that was drawn for a caption: the judge's CLIP score, and whether category, skin
tone, style and name are right. Used by best_of_k, prior, dials and heldout.

The judge is `clip_judge`, a CLIP that no system reads with, is told about or is ranked by.
"""
import torch
from torch import Tensor

from course_lib import data, recipes
from course_lib.nets.classifier import labels


class Judge:
    """judge(x, which): pictures x (N, 3, 64, 64), drawn for the captions of the rows `which` (N,) of a split
    -> {measure: (N,)}: "judge" (CLIP score), and "category", "tone", "style", "name", 100 if right else 0: is
    the picture's own name the nearest to it, of all names of the split? Names say the skin tone, the concepts
    that `concept` (N,) numbers do not.
    """

    def __init__(self, split: str):
        self.emoji = data.emoji(64, split=split)
        self.clip, self.classifier = recipes.load("clip_judge"), recipes.load("classifier")
        number = lambda key, kinds: torch.tensor([kinds.index(row[key]) for row in self.emoji.table])
        names, self.concepts = (sorted({row[key] for row in self.emoji.table}) for key in ("name", "concept"))
        self.name, self.concept = number("name", names), number("concept", self.concepts)
        self.truth = labels(self.emoji.table)
        with torch.inference_mode():
            self.named, self.said = self.clip.texts(names), self.clip.texts(self.emoji.captions)

    @torch.inference_mode()
    def __call__(self, x: Tensor, which: Tensor) -> dict[str, Tensor]:
        seen = torch.cat([self.clip.pictures(part) for part in x.split(128)])
        told = [self.classifier(part) for part in x.split(128)]
        said = {k: torch.cat([part[k] for part in told]).argmax(1) for k in self.truth}
        right = {k: said[k] == v[which] for k, v in self.truth.items()}
        right["name"] = (seen @ self.named.T).argmax(1) == self.name[which]
        score = 100 * (seen * self.said[which]).sum(1).clamp(min=0)
        return {"judge": score, **{k: 100.0 * v for k, v in right.items()}}


def interval(values: Tensor, concept: Tensor, draws: int = 2000) -> tuple[float, float, float]:
    """Mean of values (N,) and its 95 % interval, by a bootstrap over concepts (N,), since pictures of one
    concept are not independent."""
    kinds, which = concept.unique(return_inverse=True)
    total, count = (torch.zeros(len(kinds)).index_add(0, which, v.float())
                    for v in (values, torch.ones_like(values)))
    g = torch.Generator().manual_seed(0)
    pick = torch.randint(len(kinds), (draws, len(kinds)), generator=g)
    low, high = (total[pick].sum(1) / count[pick].sum(1)).quantile(torch.tensor([0.025, 0.975])).tolist()
    return values.float().mean().item(), low, high


def draw(generate, texts: list[str], batch: int = 64, seed: int = 0) -> Tensor:
    """generate(texts, seed=...) for all texts, a batch at a time, each with a seed of its own."""
    return torch.cat([generate(texts[i:i + batch], seed=1_000 * seed + i)
                      for i in range(0, len(texts), batch)])
