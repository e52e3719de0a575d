"""The priors of DALL-E 2 (Ramesh et al. 2022, section 2.2): from a text to the CLIP embedding of a picture.

CLIP puts a text and its pictures close, but not in one place: pictures lie among pictures, texts among texts.
A prior draws, for a text, where its picture could lie. Both ways of the paper:

| prior | an embedding is | it is drawn by |
|---|---|---|
| DiffusionPrior | a point | diffusion; the network predicts the clean point |
| AutoregressivePrior | k whole numbers: principal axes, rounded | one number after the other |

What they are told of a text is what CLIP's text tower knows: `words` (B, L, dim) and their `mask` (B, L), and
`topic` (B, dim), the unit vector of the whole text. Embeddings are unit vectors (B, dim).
"""
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import checks
from .autoregressive import write
from .denoiser import Denoiser, predict_x0
from .guidance import guide
from .nets.clip import CLIP
from .nets.layers import TimeEmbed, zero
from .nets.transformer import Cache, Transformer, positions
from .rng import of_seed
from .samplers import draw
from .schedules import Cosine


@checks.typed
@dataclass
class Topics:
    """A reader that tells of a text its words and, in one unit vector, its topic: what a prior is told."""
    clip: CLIP

    @torch.no_grad()
    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Texts -> {"words": (B, L, 128), "mask": (B, L), "topic": (B, 128)}."""
        return self.clip.encode(texts) | {"topic": self.clip.texts(texts)}


@checks.typed
def stretched(embedding: Tensor) -> Tensor:
    """Unit vectors (B, dim) times sqrt(dim): numbers of about unit size, as noise is; 0 says nothing."""
    return checks.floats(embedding, "embedding") * embedding.shape[1] ** 0.5


class TextTokens(nn.Module):
    """What is told of a text -> tokens (B, length + 1, width): one a word, one for the whole."""

    def __init__(self, length: int, dim: int, width: int):
        super().__init__()
        self.from_words, self.from_topic = nn.Linear(dim, width), nn.Linear(dim, width)
        self.places = positions(length + 1, width)

    def forward(self, words: Tensor, mask: Tensor, topic: Tensor) -> Tensor:
        words = self.from_words(words) * mask[:, :, None]  # nothing stands where there is no word
        return torch.cat([words, self.from_topic(topic)[:, None]], dim=1) + self.places


class EmbeddingNet(nn.Module):
    """net(x, t, words, mask, topic): a noisy embedding x (B, dim) -> the clean one (B, dim).

    A transformer reads the text, the time, the noisy embedding and a token without content; where that one
    stood, the answer is read off.
    """

    def __init__(self, length: int, dim: int, width: int, depth: int):
        super().__init__()
        self.text, self.time = TextTokens(length, dim, width), TimeEmbed(width)
        self.from_x, self.answer = nn.Linear(dim, width), positions(1, width)
        self.body, self.to_x = Transformer(width, depth), zero(nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor, words: Tensor, mask: Tensor, topic: Tensor) -> Tensor:
        own = [self.time(t), self.from_x(x), self.answer.expand(len(x), -1)]
        h = self.body(torch.cat([self.text(words, mask, topic), torch.stack(own, dim=1)], dim=1))
        return self.to_x(h[:, -1])


@checks.typed
class DiffusionPrior(nn.Module):
    """Diffusion of embeddings. length: tokens a text; dim: of an embedding."""

    def __init__(self, length: int = 16, dim: int = 128, width: int = 192, depth: int = 4):
        super().__init__()
        checks.counts(length=length, dim=dim, depth=depth)
        self.dim = dim
        self.denoiser = Denoiser(EmbeddingNet(length, dim, width, depth), Cosine(), predict_x0)

    @checks.typed
    def loss(self, embedding: Tensor, **text: Tensor) -> Tensor:
        """Mean squared error of the clean embedding, (): the loss of the paper (its eq. 2)."""
        return self.denoiser.loss(stretched(embedding), **text)

    @checks.typed
    @torch.no_grad()
    def embed(self, text: dict[str, Tensor], null: dict[str, Tensor], seed: int = 0, w: float = 1.0,
              best_of: int = 2, steps: int = 20) -> Tensor:
        """Texts -> an embedding each, (B, dim). w: guidance, away from `null`, what is told of no text.
        best_of: so many are drawn for each text, and the one nearest to it is kept (two in the paper)."""
        n, schedule = len(text["topic"]), self.denoiser.schedule
        checks.counts(best_of=best_of)
        many = [{k: v.repeat_interleave(best_of, dim=0) for k, v in part.items()} for part in (text, null)]
        x = schedule.start((n * best_of, self.dim), of_seed(seed), text["topic"].device)
        drawn = F.normalize(draw(guide(self.denoiser, *many, w), schedule, x, steps), dim=1)
        drawn = drawn.view(n, best_of, self.dim)
        nearest = torch.einsum("n k d, n d -> n k", drawn, text["topic"]).argmax(dim=1)
        return drawn[torch.arange(n), nearest]


@checks.typed
class AutoregressivePrior(nn.Module):
    """Embeddings as sentences of k numbers, each one of `levels` steps along a principal axis.

    The axes and the steps do not come by training: `measure` takes them from embeddings. On the axes of the
    largest spread an embedding keeps nearly all of its length; the rest is left out.

    dropout: in the layers. blur: the standard deviation of noise on an embedding in training. Both are there
    against learning the few thousand rows of numbers by heart.
    """

    def __init__(self, length: int = 16, dim: int = 128, k: int = 32, levels: int = 16, width: int = 192,
                 depth: int = 4, dropout: float = 0.1, blur: float = 0.03):
        super().__init__()
        checks.counts(length=length, dim=dim, levels=levels, depth=depth)
        self.blur = checks.number(blur, 0, what="blur")
        self.n, self.levels = checks.whole(k, 1, dim, "k, the number of axes,"), levels
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("axes", torch.eye(dim)[:, :k])
        self.register_buffer("steps", torch.linspace(-1, 1, levels).expand(k, levels).clone())
        self.text = TextTokens(length, dim, width)
        self.scale, self.places = positions(k, width), positions(k, width)
        self.body = Transformer(width, depth, causal=True, dropout=dropout)
        self.to_number = nn.Linear(width, levels)

    @checks.typed
    def measure(self, embedding: Tensor, weights: Tensor) -> None:
        """Take mean, axes and steps from embeddings (N, dim) that count as much as weights (N,). The steps of
        an axis are so chosen that each stands for as many embeddings."""
        share = (weights / weights.sum()).to(embedding)
        self.mean[:] = share @ embedding
        spread = (embedding - self.mean) * share.sqrt()[:, None]
        self.axes[:] = torch.linalg.eigh(spread.T @ spread)[1].flip(1)[:, :self.n]
        y, order = ((embedding - self.mean) @ self.axes).sort(dim=0)
        middle = (torch.arange(self.levels, device=y.device) + 0.5) / self.levels
        for i, (column, rank) in enumerate(zip(y.unbind(1), order.unbind(1), strict=True)):
            self.steps[i] = column[torch.searchsorted(share[rank].cumsum(0), middle).clamp(max=len(y) - 1)]

    @checks.typed
    def tokens(self, embedding: Tensor) -> Tensor:
        """Embeddings (B, dim) -> the nearest step on each axis, (B, k), 0 .. levels - 1."""
        y = (embedding - self.mean) @ self.axes
        return (y[:, :, None] - self.steps).abs().argmin(dim=2)

    @checks.typed
    def embedding(self, tokens: Tensor) -> Tensor:
        """And back: (B, k) -> unit vectors (B, dim)."""
        y = self.steps[torch.arange(self.n, device=tokens.device), tokens]
        return F.normalize(self.mean + y @ self.axes.T, dim=1)

    def _vectors(self, tokens: Tensor, first: int = 0) -> Tensor:
        """(B, m) from the place `first` on -> (B, m, width): steps are read as the numbers that they are, so
        that near ones look alike."""
        places = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        spread = self.steps[places].std(dim=1, correction=0).clamp(min=1e-6)
        value = self.steps[places, tokens] / spread
        return value[:, :, None] * self.scale[places] + self.places[places]

    @checks.typed
    def loss(self, embedding: Tensor, **text: Tensor) -> Tensor:
        """-ln p a number, (), a mean: of each number, given the text and the numbers before it."""
        if self.training:
            embedding = embedding + self.blur * torch.randn_like(embedding)
        tokens = self.tokens(embedding)
        x = torch.cat([self.text(**text), self._vectors(tokens[:, :-1])], dim=1)
        logits = self.to_number(self.body(x)[:, -self.n:])
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    @checks.typed
    def read(self, **text: Tensor) -> tuple[Tensor, list[Cache]]:
        """Logits of the first number, (B, levels), and what the layers remember of the text."""
        memory = [Cache() for _ in self.body.blocks]
        return self.to_number(self.body(self.text(**text), memory=memory)[:, -1]), memory

    @checks.typed
    def follow(self, token: Tensor, place: int, memory: list[Cache]) -> Tensor:
        """Logits of the number after `place`, (B, levels), when `token` (B,) stands there."""
        return self.to_number(self.body(self._vectors(token[:, None], place), memory=memory)[:, -1])

    @checks.typed
    @torch.no_grad()
    def embed(self, text: dict[str, Tensor], null: dict[str, Tensor], seed: int = 0, w: float = 1.0,
              top_p: float | None = 0.8, **how) -> Tensor:
        """Texts -> an embedding each, (B, dim). w: guidance; top_p; how: temperature and top_k as in `write`.
        """
        *_, tokens = write(self, text, null, w, top_p=top_p, generator=of_seed(seed), **how)
        return self.embedding(tokens)
