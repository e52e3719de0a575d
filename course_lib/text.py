"""From text to tokens, and from tokens to vectors that a network can use.

A `Tokenizer` cuts a text into words and gives each a number; a `TextEncoder` turns the numbers into one
vector a word, in which the others have left their trace, and one vector for the whole text.
"""
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .transformer import Transformer, masked_mean, positions

PAD, UNKNOWN, START = 0, 1, 2  # the first three numbers stand for no word


class Tokens(NamedTuple):
    """A batch of texts as numbers: ids (B, length) int64, mask (B, length), False on padding."""
    ids: Tensor
    mask: Tensor

    def to(self, device) -> "Tokens":
        """The same on another device."""
        return Tokens(self.ids.to(device), self.mask.to(device))


def words(text: str) -> list[str]:
    """Lower-case words; every Chinese character is a word of its own."""
    return re.findall(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+", text.lower())


class Tokenizer:
    """Words <-> numbers, with the vocabulary of the texts that it is built from.

    least: how often a word must occur to get a number. length: tokens a text, the start token included.
    """

    def __init__(self, texts: Iterable[str], length: int = 16, least: int = 1):
        counts = Counter(word for text in texts for word in words(text))
        self.vocabulary = ["", "[unknown]", "[start]", *sorted(w for w, n in counts.items() if n >= least)]
        self.number = {word: i for i, word in enumerate(self.vocabulary) if i > START}
        self.length = length

    def __len__(self) -> int:
        return len(self.vocabulary)

    def unknown(self, text: str) -> list[str]:
        """The words of text that have no number."""
        return [word for word in words(text) if word not in self.number]

    def __call__(self, texts: list[str]) -> Tokens:
        """Every text begins with the start token, so the empty one has a token too. Unknown words
        become [unknown]: ask `unknown`. What exceeds `length` is cut off."""
        if isinstance(texts, str):
            raise TypeError(f"expected a list of texts, given one text: [{texts!r}]?")
        ids = torch.full((len(texts), self.length), PAD)
        for row, text in zip(ids, texts, strict=True):
            numbers = [START, *(self.number.get(word, UNKNOWN) for word in words(text))][:self.length]
            row[:len(numbers)] = torch.tensor(numbers)
        return Tokens(ids, ids != PAD)


class TextEncoder(nn.Module):
    """tokens -> (sequence (B, length, width), pooled (B, width)); a small transformer from scratch.

    depth 0 is a bag of words: no token knows of another, and without positions order is nothing.
    """

    def __init__(self, vocabulary: int, width: int = 128, depth: int = 2, length: int = 16):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.places = positions(length, width) if depth else None
        self.body = Transformer(width, depth)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        x = self.embed(tokens.ids)
        if self.places is not None:
            x = x + self.places
        x = self.body(x, tokens.mask)
        return x, masked_mean(x, tokens.mask)
