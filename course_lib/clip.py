"""CLIP (Radford et al. 2021): pictures and texts in one space, in which partners lie close.

Two towers end in unit vectors u_i (picture) and v_j (text). In a batch of pairs each picture must find its
text among all texts, and each text its picture:

    L = -1/2 mean_i [ln softmax_j(u_i v_j / tau)_{j=i} + ln softmax_i(u_i v_j / tau)_{i=j}]
"""
import math
import random
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import Emoji, shift, to_float
from .layers import Attention, Down, ResBlock
from .text import TextEncoder, Tokenizer, Tokens


def picture_tower(width: int = 64) -> nn.Module:
    """Pictures (B, 3, 64, 64) -> features (B, 4 width)."""
    return nn.Sequential(
        nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1), ResBlock(width, width),
        Down(width, 2 * width), ResBlock(2 * width, 2 * width),
        Down(2 * width, 4 * width), Attention(4 * width), ResBlock(4 * width, 4 * width),
        nn.GroupNorm(8, 4 * width), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class CLIP(nn.Module):
    """Two towers and a temperature. tokenizer: gives the vocabulary; dim: of the common space."""

    def __init__(self, tokenizer: Tokenizer, dim: int = 128, width: int = 64):
        super().__init__()
        self.tokenizer = tokenizer
        self.tower = picture_tower(width)
        self.text = TextEncoder(len(tokenizer), length=tokenizer.length)
        self.from_picture, self.from_text = nn.Linear(4 * width, dim), nn.Linear(128, dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # ln 1/tau

    def pictures(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, 64, 64) in [-1, 1] -> unit vectors (B, dim)."""
        return F.normalize(self.from_picture(self.tower(x)), dim=1)

    def texts(self, texts: list[str] | Tokens) -> Tensor:
        """Texts -> unit vectors (B, dim)."""
        tokens = texts if isinstance(texts, Tokens) else self.tokenizer(texts)
        return F.normalize(self.from_text(self.text(tokens.to(self.log_scale.device))[1]), dim=1)

    def words(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Texts -> one vector a word (B, L, 128), and True where there is a word (B, L): what a
        text-to-picture network reads, as Stable Diffusion 1 reads the words of OpenAI's CLIP."""
        tokens = self.tokenizer(texts).to(self.log_scale.device)
        return self.text(tokens)[0], tokens.mask

    def unread(self, text: str) -> list[str]:
        """The words of a text that are lost: never seen in training, or too far back."""
        return self.tokenizer.unread(text)

    def loss(self, batch: tuple[Tensor, Tokens, Tensor]) -> Tensor:
        """The loss above on a batch of `pairs`, ()."""
        x, tokens, match = batch
        scale = self.log_scale.exp().clamp(max=100)
        return clip_loss(self.pictures(x), self.texts(tokens), scale, match)


def clip_loss(pictures: Tensor, texts: Tensor, scale: Tensor | float, match: Tensor | None = None) -> Tensor:
    """Symmetric contrastive loss of unit vectors (B, d), (B, d), in nats; chance is ln B.

    scale: 1 / tau. match (B, B): True where text j is true of picture i. All true texts of a picture, and
    all true pictures of a text, share its target equally; default: the diagonal.
    """
    logits = scale * pictures @ texts.T
    match = torch.eye(len(logits), device=logits.device) if match is None else match.to(logits)
    rows = F.cross_entropy(logits, match / match.sum(1, keepdim=True))
    columns = F.cross_entropy(logits.T, match.T / match.T.sum(1, keepdim=True))
    return (rows + columns) / 2


def facts(row: dict) -> set[str]:
    """What is true of a picture, by its row in the table: style, name, keywords, Chinese name."""
    return {f"style {row['style']}", f"name {row['name']}", f"chinese {row['chinese']}", *keywords(row)}


def keywords(row: dict) -> list[str]:
    """Its English keywords; a few pictures have none."""
    return [word for word in row["keywords"].split("|") if word]


def statements(row: dict) -> list[str]:
    """All texts of a picture that are true of it alone or of a few: caption, name, Chinese name, all
    keywords in one line, and the first three of them."""
    words = keywords(row)
    texts = row["caption"], row["name"], row["chinese"], " ".join(words), " ".join(words[:3])
    return [text for text in texts if text]


def statement(row: dict, rng: random.Random) -> tuple[str, set[str]]:
    """A random true text of a picture, and the facts it states: the caption half of the time, else
    the name, one to three keywords, or the Chinese name."""
    kind = rng.random()
    if kind < 0.5:
        return row["caption"], {f"style {row['style']}", f"name {row['name']}"}
    if kind < 0.6 and row["chinese"]:
        return row["chinese"], {f"chinese {row['chinese']}"}
    words = keywords(row)
    if kind < 0.85 and words:
        some = rng.sample(words, min(len(words), rng.randint(1, 3)))
        return " ".join(some), set(some)
    return row["name"], {f"name {row['name']}"}


def pairs(emoji: Emoji, tokenizer: Tokenizer, n: int, device=None, seed: int = 0) -> Iterator:
    """Endless batches (pictures (n, 3, 64, 64), tokens of one true text each, match (n, n)).

    match[i, j]: text j is true of picture i. Many pictures of people share words, so off the
    diagonal is not always wrong; such pairs are positives too. Pictures are shifted by up to 3 pixels.
    """
    rng, known = random.Random(seed), [facts(row) for row in emoji.table]
    pictures = emoji.pictures.to(device)
    for i in emoji.draws(n):
        drawn = [statement(emoji.table[k], rng) for k in i.tolist()]
        match = torch.tensor([[said <= known[k] for _, said in drawn] for k in i.tolist()])
        x = shift(to_float(pictures[i.to(device)]))
        yield x, tokenizer([text for text, _ in drawn]).to(device), match.to(x.device)
