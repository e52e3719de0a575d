"""Transformers that generate pictures as tokens: words and the cells of a picture in one sequence.

| network | order | source |
|---|---|---|
| DALLE | one token after the other, each from all before it | Ramesh et al. 2021 (DALL-E) |
| MaskGIT | any, several at once, each from all that are known | Chang et al. 2022 (MaskGIT) |

A sequence is `length` words, padded, and then the picture's cells, row by row, each with `codes` tokens. For
DALLE

    ln p(text, picture) = sum over i of ln p(token i | the tokens before it)
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import checks
from .text import PAD
from .transformer import Cache, Transformer, positions

TEXT_SHARE = 1 / 8  # of the loss; the picture has the rest (Ramesh et al. 2021, section 2.2)


@checks.typed
class TokenTransformer(nn.Module):
    """What both share: ids become vectors that know their place, then a transformer, then logits.

    vocabulary: how many words there are; length: of a text. grid (rows, columns): of the picture's cells,
    each with `codes` tokens of 0 .. codebook_size - 1. The first and the second token of a cell mean
    different things, so each has ids of its own: token k of code c is id c * codebook_size + k. causal: each
    position sees itself and what came before. dropout: in the layers. The vector of an id serves twice, when
    the id is read and as the weights of its logit (Press & Wolf 2017).

    The transformer reads a cell as one vector, the sum of those of its tokens, and says one vector h for a
    cell that comes. From h follow the logits of the first token; from h and that, by a small network, those
    of the second (Lee et al. 2022, RQ-Transformer): half as many positions as there are tokens.
    """

    def __init__(self, vocabulary: int, length: int, codebook_size: int, grid: Sequence[int] = (8, 8),
                 codes: int = 1, width: int = 256, depth: int = 6, heads: int = 4, causal: bool = True,
                 dropout: float = 0.0):
        super().__init__()
        checks.counts(vocabulary=vocabulary, length=length, codebook_size=codebook_size, codes=codes)
        self.length, self.grid, self.codes = length, tuple(grid), codes
        self.codebook_size, self.n = codebook_size, math.prod(grid) * codes
        self.word_embed = nn.Embedding(vocabulary, width)
        self.token_embed = nn.Embedding(codes * codebook_size + 1, width)
        for embed in (self.word_embed, self.token_embed):
            nn.init.normal_(embed.weight, std=0.02)  # as small as the places, and as logits need them
        self.word_places = positions(length, width)
        self.rows, self.columns = positions(grid[0], width), positions(grid[1], width)
        self.body = Transformer(width, depth, heads, causal, dropout)
        if codes > 1:
            self.within = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(),
                                        nn.Linear(2 * width, width))
        which = torch.arange(self.n) % codes  # the code of each place
        self.register_buffer("offset", which * codebook_size, persistent=False)

    def places(self) -> Tensor:
        """A vector for the place of every cell, (cells, width): of its row and of its column."""
        return (self.rows[:, None] + self.columns).flatten(0, 1)

    def ids(self, tokens: Tensor) -> Tensor:
        """Tokens (B, rows, columns codes) -> their ids, in a row (B, n)."""
        edges = self.grid[0], self.grid[1] * self.codes
        if tokens.shape[1:] != edges or tokens.dtype != torch.long:
            raise ValueError(f"tokens must be whole numbers (B, {edges[0]}, {edges[1]}), given "
                             f"{checks.kind(tokens)}")
        return tokens.flatten(1) + self.offset

    def cells(self, ids: Tensor) -> Tensor:
        """The ids of the first m cells' tokens, (B, m codes) -> what the transformer reads, (B, m, width)."""
        x = self.token_embed(ids).unflatten(1, (-1, self.codes)).sum(2)
        return x + self.places()[:x.shape[1]]

    def to_tokens(self, h: Tensor, ids: Tensor) -> Tensor:
        """Vectors of cells (B, m, width) and the ids of their tokens (B, m codes) -> the logits of all these
        tokens, (B, m codes, codebook_size), each from h and from the cell's tokens before it."""
        own = self.token_embed(ids).unflatten(1, (-1, self.codes))
        logits = [self.logits_of(k, h, own[:, :, :k].sum(2)) for k in range(self.codes)]
        return torch.stack(logits, dim=2).flatten(1, 2)

    def logits_of(self, code: int, h: Tensor, before: Tensor | float) -> Tensor:
        """Logits of a cell's token number `code`, (..., codebook_size), from h (..., width) and from the sum
        of the vectors of its tokens before that one: 0 for the first."""
        if code:
            h = h + self.within(h + before)
        return h @ self.token_embed.weight[code * self.codebook_size:][:self.codebook_size].T

    def _text(self, text: Tensor) -> Tensor:
        if text.ndim != 2 or text.shape[1] != self.length or text.dtype != torch.long:
            raise ValueError(f"text must be the numbers of words (B, {self.length}), given "
                             f"{checks.kind(text)}")
        return self.word_embed(text) + self.word_places


@dataclass
class Memory:
    """What DALLE knows while it draws. layers: keys and values of what was read. h (B, width): what it says
    of the cell that comes. cell (B, width): the sum of the vectors of that cell's tokens so far."""
    layers: list[Cache]
    h: Tensor | None = None
    cell: Tensor | float = 0.0


@checks.typed
class DALLE(TokenTransformer):
    """One token after the other: causal attention, so each place sees itself and what came before. wrong:
    the mean share of picture tokens that it reads wrongly in training; sizes as in TokenTransformer."""

    def __init__(self, *sizes, wrong: float = 0.0, **more):
        super().__init__(*sizes, **more)
        self.wrong = checks.number(wrong, 0, 0.5, "wrong")

    @checks.typed
    def loss(self, tokens: Tensor, text: Tensor) -> Tensor:
        """-ln p a token, (): 1/8 that of the words, 7/8 that of the picture, each a mean. tokens (B, rows,
        columns codes), text (B, length)."""
        ids = self.misread(self.ids(tokens))
        h = self.body(torch.cat([self._text(text), self.cells(ids[:, :-self.codes])], dim=1))
        say, draw = self.to_words(h[:, :self.length - 1]), self.to_tokens(h[:, self.length - 1:], ids)
        words = F.cross_entropy(say.flatten(0, 1), text[:, 1:].flatten(), ignore_index=PAD)
        picture = F.cross_entropy(draw.flatten(0, 1), tokens.flatten())
        return TEXT_SHARE * words.nan_to_num() + (1 - TEXT_SHARE) * picture

    def to_words(self, h: Tensor) -> Tensor:
        """Vectors (B, m, width) -> logits of the words that can come next, (B, m, vocabulary)."""
        return h @ self.word_embed.weight.T

    def misread(self, ids: Tensor) -> Tensor:
        """In training, the ids (B, n) with a random share of 0 .. 2 wrong of each picture replaced at random:
        when it draws, its own tokens are not always right either (Esser et al. 2021, in their code)."""
        if not self.training or not self.wrong:
            return ids
        share = 2 * self.wrong * torch.rand(len(ids), 1, device=ids.device)
        other = torch.randint(self.codebook_size, ids.shape, device=ids.device) + self.offset
        return torch.where(torch.rand(ids.shape, device=ids.device) < share, other, ids)

    @checks.typed
    def read(self, text: Tensor) -> tuple[Tensor, Memory]:
        """Logits of the first picture token, (B, codebook_size), and what is remembered of the text."""
        memory = Memory([Cache() for _ in self.body.blocks])
        memory.h = self.body(self._text(text), memory=memory.layers)[:, -1]
        return self.logits_of(0, memory.h, 0), memory

    @checks.typed
    def follow(self, token: Tensor, place: int, memory: Memory) -> Tensor:
        """Logits of the token after `place`, (B, codebook_size), when `token` (B,) stands there. A cell that
        is complete is read by the transformer, which looks up in `memory` what it computed for the others.
        """
        memory.cell = memory.cell + self.token_embed(token + self.offset[place])
        code = (place + 1) % self.codes
        if code == 0:
            x = memory.cell + self.places()[place // self.codes]
            memory.h, memory.cell = self.body(x[:, None], memory=memory.layers)[:, 0], 0.0
        return self.logits_of(code, memory.h, memory.cell)


@checks.typed
class MaskGIT(TokenTransformer):
    """Any order: attention in both directions, and an id that stands for "not known yet"."""

    def __init__(self, *sizes, **more):
        super().__init__(*sizes, **more, causal=False)
        self.mask = self.codes * self.codebook_size

    @checks.typed
    def logits(self, ids: Tensor, text: Tensor) -> Tensor:
        """What stands at each place, (B, n, codebook_size), given the known ids (B, n)."""
        cells = self.cells(ids)
        known = torch.cat([text != PAD, cells.new_ones(cells.shape[:2], dtype=torch.bool)], dim=1)
        h = self.body(torch.cat([self._text(text), cells], dim=1), known)
        return self.to_tokens(h[:, self.length:], ids)

    @checks.typed
    def loss(self, tokens: Tensor, text: Tensor) -> Tensor:
        """-ln p of the tokens that were hidden, (), a mean. The share that is hidden is cos(pi u / 2), u even
        in 0 .. 1: often much, seldom little."""
        ids = self.ids(tokens)
        share = torch.cos(torch.rand(len(ids), 1, device=ids.device) * math.pi / 2)
        hidden = torch.rand(ids.shape, device=ids.device) < share
        logits = self.logits(ids.masked_fill(hidden, self.mask), text)
        error = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(hidden)
        return (error * hidden).sum() / hidden.sum().clamp(min=1)
