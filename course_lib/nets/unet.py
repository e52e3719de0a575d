"""The U-Net: the picture goes down to low resolution and up again, with shortcuts across.

Ronneberger et al. 2015, as used for diffusion by Ho et al. 2020 (appendix B). `patch` folds
patch x patch pixels into channels first (space-to-depth): 4 or 16 times fewer positions, and so
4 or 16 times fewer operations in every layer.

What the network is told beside picture and time enters by one of three ports: a vector for the picture as
a whole (`vectors`), a sequence of words (`words`), or channels laid beside the picture (`cond_ch`).
"""
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import checks
from .layers import Attention, Down, ResBlock, TextBlock, TimeEmbed, Up, zero
from .transformer import masked_mean


@checks.typed
class UNet(nn.Module):
    """net(x, t): x (B, channels, H, W), t (B,) in 0 .. 1000 -> (B, channels, H, W).

    widths: channels at each resolution, from fine to coarse. blocks: ResBlocks per resolution.
    patch: edge of the square of pixels that is folded into channels. H and W must be multiples
    of patch * 2^(len(widths) - 1). An untrained network predicts 0. It computes in float32, or under
    `torch.autocast` in less; `.half()` would break it, since times are embedded in float32.

    vectors: name -> maker. maker(dim) builds a module that turns the condition of that name, (B, ...), into a
    vector (B, dim), which joins the time embedding: `ClassEmbed` for labels, `LevelEmbed` for levels of
    noise, `VectorEmbed` for vectors, such as those of CLIP.

    words > 0: a network that reads. words (B, L, words) holds one vector a word, mask (B, L) is True for
    words and False for padding. Their mean joins the time embedding: what the picture is about. After every
    ResBlock each position looks at the words themselves: which word concerns it (Rombach et al. 2022).

    cond_ch > 0: it also sees a small picture low_res (B, cond_ch, H / patch, W / patch) in [-1, 1], laid
    beside the folded x (Ho et al. 2022, cascaded diffusion).

    What it was built to be told must be given, but for a label, whose absence says nothing; and nothing else.
    """

    def __init__(self, widths: Sequence[int] = (32, 64), blocks: int = 1, patch: int = 1, channels: int = 3,
                 *, vectors: Mapping[str, Callable[[int], nn.Module]] | None = None, words: int = 0,
                 cond_ch: int = 0):
        super().__init__()
        checks.channels(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        checks.counts(resolutions=len(widths), blocks=blocks, patch=patch, channels=channels)
        checks.whole(words, 0, what="words")
        checks.whole(cond_ch, 0, what="cond_ch")
        self.channels = channels
        self.patch, self.multiple = patch, patch * 2 ** (len(widths) - 1)
        self.cond_ch, self.words = cond_ch, words
        c, here, dim = channels * patch**2, widths[0], 4 * widths[0]
        self.time = TimeEmbed(dim)
        self.vectors = nn.ModuleDict({name: make(dim) for name, make in (vectors or {}).items()})
        self.topic = nn.Linear(words, dim) if words else None
        block = partial(TextBlock, words=words) if words else ResBlock
        self.first = nn.Conv2d(c + cond_ch, here, 3, padding=1)
        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [here]
        for level, width in enumerate(widths):
            if level > 0:
                self.down.append(Down(here, width))
                skips.append(width)
            self.down.extend(block(width, width, dim) for _ in range(blocks))
            skips += [width] * blocks
            here = width
        self.middle = nn.ModuleList([block(here, here, dim), Attention(here), block(here, here, dim)])
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(block(here + skips.pop(), width, dim))
                here = width
            if level > 0:
                self.up.append(Up(here, here))
        self.last = nn.Sequential(nn.GroupNorm(8, here), nn.SiLU(), zero(nn.Conv2d(here, c, 3, padding=1)))

    @checks.typed
    def forward(self, x: Tensor, t: Tensor, *, words: Tensor | None = None, mask: Tensor | None = None,
                low_res: Tensor | None = None, **vectors: Tensor) -> Tensor:
        self._check(x, t, words=words, mask=mask, low_res=low_res, **vectors)
        emb = self.time(t)
        for name, embed in self.vectors.items():
            told = vectors.get(name)
            emb = emb + embed(embed.none(len(x), x.device) if told is None else told)
        if self.words:
            emb = emb + self.topic(masked_mean(words, mask))

        def run(layer, x):
            return layer(x, emb, words, mask) if isinstance(layer, TextBlock) else layer(x, emb)
        x = F.pixel_unshuffle(x, self.patch)
        x = self.first(x if low_res is None else torch.cat([x, low_res], dim=1))
        skips = [x]
        for layer in self.down:
            x = run(layer, x)
            skips.append(x)
        for layer in self.middle:
            x = run(layer, x)
        for layer in self.up:
            if isinstance(layer, ResBlock):
                x = torch.cat([x, skips.pop()], dim=1)
            x = run(layer, x)
        return F.pixel_shuffle(self.last(x), self.patch)

    def _check(self, x, t, **cond):
        checks.floats(x, "x")
        if x.ndim != 4 or x.shape[1] != self.channels or any(edge % self.multiple for edge in x.shape[2:]):
            raise ValueError(f"x must be (B, {self.channels}, H, W), H and W multiples of "
                             f"{self.multiple}; given {tuple(x.shape)}")
        if t.shape != (len(x),):
            raise ValueError(f"t must be {len(x)} times, one a picture; given {tuple(t.shape)}")
        given = {name for name, value in cond.items() if value is not None}
        wanted = set(self.vectors)
        if self.words:
            wanted |= {"words", "mask"}
        if self.cond_ch:
            wanted |= {"low_res"}
        if given - wanted:
            raise ValueError(f"this network was built without {', '.join(sorted(given - wanted))}, and would "
                             f"not use it. It takes {', '.join(sorted(wanted)) or 'no condition'}.")
        optional = {name for name, embed in self.vectors.items() if hasattr(embed, "none")}
        if missing := wanted - given - optional:
            raise ValueError(f"this network also needs {', '.join(sorted(missing))}, given None")
        for name in given & {*self.vectors}:
            if not torch.is_tensor(cond[name]) or cond[name].ndim == 0 or len(cond[name]) != len(x):
                raise ValueError(f"{name} must be a tensor with one entry a picture, {len(x)}; given "
                                 f"{checks.kind(cond[name])}")
        expected = (len(x), self.cond_ch, x.shape[2] // self.patch, x.shape[3] // self.patch)
        if self.cond_ch and checks.finite(cond["low_res"], "low_res").shape != expected:
            raise ValueError(f"low_res must be {expected}, given {tuple(cond['low_res'].shape)}")
        if self.words:
            check_words(cond["words"], cond["mask"], len(x), self.words)


def check_words(words: Tensor, mask: Tensor, n: int, width: int) -> None:
    """Raise ValueError unless words (n, L, width) and mask (n, L) describe n texts, none without a word."""
    if not torch.is_tensor(words) or not torch.is_tensor(mask):
        raise ValueError("words and mask must be tensors, "
                         f"given {checks.kind(words)} and {checks.kind(mask)}")
    if checks.floats(words, "words").ndim != 3 or (len(words), words.shape[2]) != (n, width):
        raise ValueError(f"words must be ({n}, L, {width}), one vector a word; given {tuple(words.shape)}")
    if mask.dtype != torch.bool or mask.shape != words.shape[:2] or not (
            checks.capturing() or mask.any(1).all()):
        raise ValueError(f"mask must be {tuple(words.shape[:2])} of True (word) and False (padding), "
                         "with a True in every row: the empty text has its start token")


# ---- Makers of vectors: what `UNet(vectors=...)` takes ---------------------------------------------

@checks.typed
class ClassEmbed(nn.Module):
    """Labels (B,) in 0 .. classes - 1 -> vectors (B, dim); the label `classes` says nothing, and starts at 0.

    share (classes,): how often each class occurs. It is kept with the weights for whoever draws the class.
    """

    def __init__(self, dim: int, classes: int, width: int = 64):
        super().__init__()
        checks.counts(dim=dim, classes=classes, width=width)
        self.classes = classes
        self.table, self.out = nn.Embedding(classes + 1, width), zero(nn.Linear(width, dim))
        self.register_buffer("share", torch.full((classes,), 1 / classes))

    def none(self, n: int, device=None) -> Tensor:
        """The labels (n,) of pictures of which nothing is said."""
        return torch.full((n,), self.classes, device=device)

    @checks.typed
    def forward(self, label: Tensor) -> Tensor:
        return self.out(self.table(checks.labels(label, self.classes, note=" (no class)")))


class LevelEmbed(TimeEmbed):
    """Levels (B,) in 0 .. 1 -> vectors (B, dim): waves of many lengths, as for the time."""

    @checks.typed
    def forward(self, level: Tensor) -> Tensor:
        if checks.floats(level, "a level").ndim != 1 or not (
                checks.capturing() or ((level >= 0) & (level <= 1)).all()):
            raise ValueError(f"a level must be numbers (B,) in 0 .. 1, given {checks.kind(level)}")
        return super().forward(1000 * level)


@checks.typed
class VectorEmbed(nn.Linear):
    """Vectors (B, width) -> vectors (B, dim): a linear map that starts at 0."""

    def __init__(self, dim: int, width: int):
        checks.counts(dim=dim, width=width)
        super().__init__(width, dim)
        zero(self)

    def forward(self, vector: Tensor) -> Tensor:
        if checks.floats(vector, "a vector").ndim != 2 or vector.shape[1] != self.in_features:
            raise ValueError(f"vectors must be (B, {self.in_features}), given {checks.kind(vector)}")
        return super().forward(vector)


# ---- Networks made of a network --------------------------------------------------------------------

@checks.typed
class Blind(nn.Module):
    """A network that is told t = 0, whatever the time."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x, t):
        return self.net(x, torch.zeros_like(t))


@checks.typed
class Regression(nn.Module):
    """Small pictures (B, 3, 16, 16) -> the mean of all 64 px pictures that they can come from.

    A super-resolution network without noise on its input: it sees zeros instead of x_t.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    @checks.typed
    def forward(self, low_res: Tensor) -> Tensor:
        b, c, h, w = checks.pictures(low_res, what="low_res").shape
        zeros = low_res.new_zeros(b)
        return self.net(low_res.new_zeros(b, c, h * self.net.patch, w * self.net.patch), zeros,
                        low_res=low_res, aug_level=zeros)

    @checks.typed
    def loss(self, x_0: Tensor, low_res: Tensor) -> Tensor:
        """Mean squared error of the guess for low_res (B, 3, 16, 16) against x_0 (B, 3, 64, 64), ()."""
        return ((self(low_res) - checks.pictures(x_0, what="x_0")) ** 2).mean()
