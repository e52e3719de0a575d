"""Endless batches: dicts of tensors whose keys are the arguments of the loss that eats them.

All that is random comes from torch's global state, so one seed repeats a training. Pictures are drawn with
`Emoji.weights`. Tables and pictures are moved to the device once; nothing is loaded in the background, since
everything fits in memory.
"""
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from . import checks, data
from .captions import facts, mostly_captions, random_text
from .data import Emoji, shift, to_float
from .guidance import augment, drop
from .nets.classifier import labels
from .nets.text import Tokenizer
from .systems.prompts import Reader, encode


@checks.typed
def picture_batches(emoji: Emoji, n: int, device=None, change: Callable[[Tensor], Tensor] = lambda x: x,
                    name: str = "x_0") -> Iterator[dict]:
    """{name: pictures (n, 3, S, S) in [-1, 1]}; change: what is done to each batch, such as `flip_and_shift`.
    """
    for x in emoji.batches(n, device):
        yield {name: change(x)}


@checks.typed
def enlarging_batches(emoji: Emoji, n: int, device=None, k: int = 4, most: float = 0.5) -> Iterator[dict]:
    """Pictures x_0 with what an enlarger is told: low_res, k times smaller and damaged, and the share of
    noise on each, aug_level (n,), even in 0 .. most."""
    for x in emoji.batches(n, device):
        yield {"x_0": x, **damaged_copies(x, k, most)}


@checks.typed
def damaged_copies(x: Tensor, k: int = 4, most: float = 0.5) -> dict[str, Tensor]:
    """What an enlarger is told of pictures x (n, 3, S, S): low_res and aug_level, as above."""
    level = checks.number(most, 0, 1, "most") * torch.rand(len(x), device=x.device)
    return {"low_res": augment(data.shrink(x, k), level), "aug_level": level}


@checks.typed
def small_batches(emoji: Emoji, n: int, device=None, k: int = 4) -> Iterator[dict]:
    """Pictures x_0 and the same ones k times smaller, low_res, undamaged."""
    for x in emoji.batches(n, device):
        yield {"x_0": x, "low_res": data.shrink(x, k)}


@checks.typed
def latent_batches(emoji: Emoji, z: Tensor, n: int, device=None) -> Iterator[dict]:
    """{"x_0": latents (n, ...)}; z: the latents of emoji's pictures, in their order."""
    z = _of(emoji, checks.floats(z, "z")).to(device)
    for i in emoji.draws(n):
        yield {"x_0": z[i.to(z.device)]}


@checks.typed
def class_batches(emoji: Emoji, z: Tensor, label: Tensor, classes: int, n: int, device=None,
                  p: float = 0.1) -> Iterator[dict]:
    """Latents x_0 and the label of each, (n,): that of label (N,), in 0 .. classes - 1, or with probability p
    the number `classes`, which says nothing."""
    z, label = _of(emoji, checks.floats(z, "z")).to(device), _of(emoji, label).to(device)
    checks.counts(classes=classes)
    checks.labels(label, classes - 1)
    nothing = torch.tensor(classes, device=z.device)
    for i in emoji.draws(n):
        i = i.to(z.device)
        yield {"x_0": z[i], "label": drop(label[i], nothing, p)}


@checks.typed
def caption_batches(emoji: Emoji, z: Tensor, encoder: Reader, n: int, device=None, p: float = 0.1,
                    texts: Callable[[dict], list[str]] = mostly_captions, **beside: Tensor) -> Iterator[dict]:
    """Latents x_0 (n, ...) with what the encoder gives for a text of each, such as words and mask.

    Every picture comes with one of its true texts, texts(row); by default half of them are the caption.
    With probability p it is the empty text instead, which teaches the same network the pictures as such,
    for guidance (Ho & Salimans 2022). Each text is read once, before the first batch. z may also be
    tokens, or the pictures themselves, uint8. beside: more that is told of each picture, by name, (N, ...).
    """
    said = [checks.texts(texts(row)) for row in emoji.table]
    every = ["", *sorted({text for row in said for text in row} - {""}, key=lambda text: (len(text), text))]
    number = {text: i for i, text in enumerate(every)}
    read = {k: v.to(device) for k, v in encode(encoder, every).items()}
    z = _of(emoji, z).to(device)
    beside = {k: _of(emoji, v).to(device) for k, v in beside.items()}
    for i in emoji.draws(n):
        pairs = zip(i.tolist(), torch.rand(n).tolist(), strict=True)
        chosen = torch.tensor([number[said[k][int(u * len(said[k]))]] for k, u in pairs])
        j, i = drop(chosen, torch.tensor(0), p).to(z.device), i.to(z.device)
        x_0 = to_float(z[i]) if z.dtype == torch.uint8 else z[i]
        yield {"x_0": x_0, **{k: v[j] for k, v in read.items()}, **{k: v[i] for k, v in beside.items()}}


@checks.typed
def pair_batches(emoji: Emoji, tokenizer: Tokenizer, n: int, device=None) -> Iterator[dict]:
    """Pictures x (n, 3, 64, 64), the tokens of one true text each, and match (n, n).

    match[i, j]: text j is true of picture i. Many pictures of people share words, so off the
    diagonal is not always wrong; such pairs are positives too. The batch is shifted by up to 3 pixels.
    """
    known, pictures = [facts(row) for row in emoji.table], emoji.pictures.to(device)
    for i in emoji.draws(n):
        drawn = [random_text(emoji.table[k]) for k in i.tolist()]
        match = torch.tensor([[said <= known[k] for _, said in drawn] for k in i.tolist()])
        x = shift(to_float(pictures[i.to(pictures.device)]))
        tokens = tokenizer([text for text, _ in drawn])
        yield {"x": x, "tokens": tokens.to(x.device), "match": match.to(x.device)}


@checks.typed
def label_batches(emoji: Emoji, n: int, device=None) -> Iterator[dict]:
    """Pictures x (n, 3, 64, 64), the batch shifted by up to 3 pixels, and their labels category, tone, style.
    """
    truth, pictures = labels(emoji.table), emoji.pictures.to(device)
    for i in emoji.draws(n):
        x = shift(to_float(pictures[i.to(pictures.device)]))
        yield {"x": x, **{k: v[i].to(x.device) for k, v in truth.items()}}


def _of(emoji: Emoji, z: Tensor) -> Tensor:
    if len(z) != len(emoji):
        raise ValueError(f"there are {len(z)} entries for {len(emoji)} pictures: they must be of the same "
                         "split, in the same order")
    return torch.as_tensor(z)
