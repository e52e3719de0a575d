"""A classifier of emoji: which category, skin tone and style is it?

Its answers score generated pictures; what it sees just before it answers, `features`, is the space in which
the course measures Frechet distances (as FID does with the features of Inception-v3).
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import checks
from .autoencoder import SIZE
from .layers import picture_tower

LABELS = {
    "category": ["Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink", "Travel & Places",
                 "Activities", "Objects", "Symbols", "Flags"],
    "tone": ["", "light", "medium-light", "medium", "medium-dark", "dark", "mixed"],
    "style": ["fluent", "twemoji", "noto"],
}


@checks.typed
class Classifier(nn.Module):
    """Three answers from one tower; the loss is the sum of their cross-entropies."""

    def __init__(self, width: int = 64):
        super().__init__()
        checks.channels(width=width)
        self.tower = picture_tower(width)
        self.heads = nn.ModuleDict({name: nn.Linear(4 * width, len(v)) for name, v in LABELS.items()})

    def features(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, 64, 64) in [-1, 1] -> (B, 4 width), 256 as shipped."""
        checks.pictures(x, SIZE)
        return self.tower(x)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Pictures -> {"category": (B, 9), "tone": (B, 7), "style": (B, 3)}, log-probabilities."""
        h = self.features(x)
        return {name: head(h).log_softmax(1) for name, head in self.heads.items()}

    @checks.typed
    def loss(self, x: Tensor, **truth: Tensor) -> Tensor:
        """Sum of the three cross-entropies for pictures x and the `labels` of their rows, (B,) each; ()."""
        if truth.keys() != LABELS.keys():
            raise ValueError(f"the loss needs the labels {', '.join(LABELS)}; given {', '.join(truth)}")
        for name, label in truth.items():
            if len(checks.labels(label, len(LABELS[name]) - 1, name)) != len(x):
                raise ValueError(f"there are {len(label)} labels of {name} for {len(x)} pictures")
        return sum(F.nll_loss(log_p, truth[name]) for name, log_p in self(x).items())


@checks.typed
def labels(table: list[dict]) -> dict[str, Tensor]:
    """The rows' labels as numbers, (N,) each."""
    return {name: torch.tensor([v.index(row[name]) for row in table]) for name, v in LABELS.items()}
