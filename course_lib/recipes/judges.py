"""Networks that judge pictures, or read texts: the classifier and CLIP."""
import torch

from .. import batches, data
from ..nets.classifier import Classifier, labels
from ..nets.clip import CLIP
from ..nets.text import Tokenizer
from .pixel_models import of_pictures
from .registry import Recipe, Store, recipe


@recipe
def classifier() -> Recipe:
    """Category, skin tone and style of an emoji; its features are those of the course's FID."""
    return Recipe(Classifier, of_pictures(64, stream=batches.label_batches), steps=6_000, measure=accuracy)


def accuracy(model: Classifier, store: Store) -> dict[str, float]:
    """The share of right answers on new pictures, the validation split."""
    emoji = data.emoji(64, split="val")
    x = data.to_float(emoji.pictures).to(next(model.parameters()).device)
    said, truth = model(x), labels(emoji.table)
    right = {k: (said[k].argmax(1).cpu() == v).float().mean().item() for k, v in truth.items()}
    return {f"{k}_right": round(v, 4) for k, v in right.items()}


def clip_recipe(steps: int, **more) -> Recipe:
    """What both CLIPs share: captions, names, keywords and Chinese names of the training split."""
    def make(split="train", device=None, store=None):
        return batches.pair_batches(data.emoji(64, split=split), tokenizer(), 192, device)
    return Recipe(lambda: CLIP(tokenizer(), **more), make, steps, measure=retrieval)


@recipe
def clip() -> Recipe:
    """CLIP on captions, names, keywords and Chinese names of the training split."""
    return clip_recipe(1_500)


@recipe
def clip_judge() -> Recipe:
    """A second CLIP, that no system reads or is ranked by: it only judges."""
    return clip_recipe(2_000, width=48)


def retrieval(model: CLIP, store: Store) -> dict[str, float]:
    """How often a new picture's own caption is the best of all captions of new pictures."""
    emoji = data.emoji(64, split="val")
    x = data.to_float(emoji.pictures).to(next(model.parameters()).device)
    best = (model.pictures(x) @ model.texts(emoji.captions).T).argmax(1).cpu()
    return {"own_caption_first": round((best == torch.arange(len(emoji))).float().mean().item(), 4)}


def tokenizer() -> Tokenizer:
    """The tokenizer of every text model: all words of the training split's texts."""
    return Tokenizer(row[c] for row in data.table() for c in ("caption", "keywords", "chinese"))
