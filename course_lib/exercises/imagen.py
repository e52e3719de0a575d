"""Exercises of notebook 08, Imagen: dynamic thresholding, and an enlarger trained and used in a cascade."""
import math

import torch
from torch import nn
from torch.nn import functional as F

from ..schedules import like
from . import normal, problem

# ---- dynamic_threshold ------------------------------------------------------------------------

def _guesses():
    x = normal(3, 3, 8, 8) * torch.tensor([0.4, 2.0, 1.5])[:, None, None, None]
    x[2] = 0.4 - 2 * x[2].abs()  # far beyond the range on the dark side only
    return [(x, 0.9), (2 * normal(2, 3, 6, 6, seed=1), 0.995)]


def _quantile(x, q):
    return x.flatten(1).quantile(q, dim=1)[:, None, None, None]


def _held(c=lambda x, q: _quantile(x.abs(), q).clamp(min=1), end=lambda x, c: x.clamp(-c, c) / c):
    return lambda x0, q: end(x0, c(x0, q))


def _by_neighbours(f):
    """Quantiles differ in how they go from one size to the next: each result lies between the two's."""
    for x0, q in _guesses():
        size = x0.flatten(1).abs().sort(dim=1).values
        at, out = q * (size.shape[1] - 1), f(x0, q)
        a, b = ((x0 / like(size[:, i].clamp(min=1), x0)).clamp(-1, 1)
                for i in (math.floor(at) - 1, min(math.ceil(at) + 1, size.shape[1] - 1)))
        if not ((out - a) * (out - b) <= 1e-6).all():
            return False
    return True


@problem(
    works="strong guidance may push pixels beyond the range, and few of them burn out.",
    hints=("One number a picture: how large are its pixels, but for the few largest?",
           "c = the q-quantile of |x0| of each picture, at least 1. Clip to -c .. c, then divide by c.",
           "c = x0.abs().flatten(1).quantile(q, dim=1).clamp(min=1)[:, None, None, None]; return ... / c"),
    cases=_guesses,
    accepts=_by_neighbours,
    mistakes=(
        (_held(lambda x, q: x.abs().quantile(q).clamp(min=1)),
         "one quantile for the whole batch: each picture has its own, so that none depends on the others."),
        (_held(lambda x, q: _quantile(x.abs(), q)),
         "no max(1, .): it stretches dull pictures. c is at least 1."),
        (_held(lambda x, q: _quantile(x.abs(), q).clamp(max=1)),
         "here c is at most 1, and it must be at least 1: clamp(min=1)."),
        (_held(lambda x, q: _quantile(x, q).clamp(min=1)),
         "a quantile with signs does not see what is far too dark: take that of |x0|."),
        (_held(end=lambda x, c: x / c),
         "it divides without clipping: the largest pixels stay beyond the range."),
        (_held(end=lambda x, c: x.clamp(-c, c)),
         "it clips to -c .. c and does not divide: pictures end at -1 and 1, so divide by c."),
        (_held(end=lambda x, c: x.clamp(-1, 1)),
         "that is static thresholding: all that is beyond the range ends at its edge. Use c."),
        (_held(end=lambda x, c: x.clamp(-1, 1) / c),
         "it clips to -1 .. 1 before it divides: contrast is lost. Clip to -c .. c."),
        (_held(lambda x, q: x.abs().amax((1, 2, 3), keepdim=True).clamp(min=1)),
         "that is the largest pixel: a single outlier would make the whole picture dull."),
        (_held(lambda x, q: x.abs().flatten(2).quantile(q, dim=2)[:, :, None, None].clamp(min=1)),
         "a quantile for each channel changes the colours: one for each picture."),
    ),
)
def dynamic_threshold(x0, q):
    """Dynamic thresholding (Saharia et al. 2022, Imagen, section 2.3).

    x0: (B, 3, H, W), predictions that may leave [-1, 1]. q: 0 .. 1, such as 0.995.
    Returns, like x0: x0 held within [-c, c] and divided by c, where c is the q-quantile of |x0| of each
    picture, but at least 1.
    """
    c = x0.abs().flatten(1).quantile(q, dim=1).clamp(min=1)[:, None, None, None]  # (B, 1, 1, 1)
    return x0.clamp(-c, c) / c


# ---- enlarger_loss ----------------------------------------------------------------------------

class _Loss(nn.Module):
    """A stand-in for the loss of an enlarger: with one weight, and its own for each told level."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, x_0, low_res, aug_level=0.0):
        level = torch.as_tensor(aug_level).reshape(-1, 1, 1, 1)
        guess = self.weight * F.interpolate(low_res, size=x_0.shape[2:]) * (1 - level**2)
        return ((guess - x_0) ** 2).mean()


def _to_enlarge():
    x, eps = normal(3, 3, 16, 16).clamp(-1, 1), normal(3, 3, 4, 4, seed=1)
    return [(_Loss(), x, torch.tensor(level), eps) for level in ([0.3, 0.8, 0.1], [0.0, 0.5, 0.2])]


def _enlarger(a=lambda s: (1 - s**2).sqrt(), s=lambda s: s, told=lambda level: level,
              small=lambda x: F.avg_pool2d(x, 4), seen=lambda level: level):
    def f(loss, x, level, eps):
        share = seen(level).reshape(-1, 1, 1, 1)
        return loss(x, a(share) * small(x) + s(share) * eps, told(level))
    return f


def _trains(f):
    loss, *rest = _to_enlarge()[0]
    found = f(loss, *rest)
    return found.requires_grad and torch.autograd.grad(found.sum(), loss.weight)[0] != 0


@problem(
    works="the enlarger meets flaws in training, is told how many, and will forgive generated ones.",
    hints=("Make the small picture, put noise on it, and tell the network how much: three lines.",
           "low_res = sqrt(1 - level^2) small + level eps, one level a picture: shape it (B, 1, 1, 1).",
           "small = F.avg_pool2d(x, 4); return loss(x, (1 - s**2).sqrt() * small + s * eps, ...)"),
    cases=_to_enlarge,
    mistakes=(
        (_enlarger(a=lambda s: 1.0),
         "noise is added without shrinking the signal: its factor is sqrt(1 - level^2)."),
        (_enlarger(a=lambda s: 1 - s), "a^2 + s^2 = 1, not a + s = 1: the factor is sqrt(1 - level^2)."),
        (*(twin for one in (lambda v: v[0], lambda v: v.mean())
           for twin in (_enlarger(seen=one), _enlarger(told=one), _enlarger(seen=one, told=one))),
         "one level for the whole batch: each picture has its own, (B, 1, 1, 1)."),
        (_enlarger(told=lambda v: torch.zeros_like(v)), _enlarger(told=lambda v: 0.0),
         "the level is not given to the network: it must know how much of the small picture to believe."),
        (_enlarger(a=lambda s: 1.0, s=lambda s: 0.0),
         "there is no noise: the enlarger learns to trust small pictures that are perfect."),
        (_enlarger(told=lambda v: 1 - v), _enlarger(told=lambda v: (1 - v**2).sqrt()),
         "it is told the share of the signal: aug_level is that of the noise, level."),
        (lambda loss, x, level, eps: _enlarger()(lambda x0, low, told: loss(low, x0, told), x, level, eps),
         "the two pictures are exchanged: loss(x_0, low_res, aug_level), and x_0 is the large, clean one."),
        (_enlarger(small=lambda x: x[..., ::4, ::4]),
         "one pixel of 16 is kept: a small pixel is the mean of 4 x 4, F.avg_pool2d(x, 4)."),
    ),
    limits=((_trains, "no gradient reaches the network. Leave out .item(), .detach() and no_grad()."),),
)
def enlarger_loss(loss, x, level, eps):
    """The loss of an enlarger that will meet generated pictures (Ho et al. 2022, noise augmentation).

    loss: loss(x_0, low_res, aug_level), of a network that enlarges low_res to x_0. x: pictures
    (B, 3, S, S). level: (B,), 0 .. 1, the factor of the noise on each small picture. eps: standard normal,
    (B, 3, S / 4, S / 4).
    Returns the loss, one number, with low_res = sqrt(1 - level^2) small + level eps, and small the means
    of 4 x 4 pixels.
    """
    small, s = F.avg_pool2d(x, 4), level[:, None, None, None]
    return loss(x, (1 - s**2).sqrt() * small + s * eps, level)


# ---- cascade ----------------------------------------------------------------------------------

def _base(texts):
    return normal(len(texts), 3, 4, 4) + _meaning(texts)


def _damage(small, level):
    return (1 - level**2) ** 0.5 * small + level * normal(*small.shape, seed=1)


def _enlarge(low_res, level, texts=None):
    told = 0.0 if texts is None else _meaning(texts)
    return F.interpolate(low_res * (1 - level), scale_factor=4) + told


def _meaning(texts):
    return torch.tensor([0.1 * len(text) for text in texts])[:, None, None, None]


def _in_range(x):
    return x.clamp(-1, 1)


def _system(first=_in_range, damage=True, second=lambda x: x, told=lambda level: level, last=_in_range,
            text=True):
    def f(base, damage_, enlarger, texts, level):
        small = first(base(texts))
        low_res = second(damage_(small, level) if damage else small)
        return last(enlarger(low_res, told(level), *([texts] if text else [])))
    return f


@problem(
    works="the small picture decides what is there, the large one how it looks; both know the text.",
    hints=("Three steps: a small picture of the text, damage, a large picture. Who is told what?",
           "The small picture is held within -1 .. 1, then damaged. The enlarger is told level and texts.",
           "small = base(texts).clamp(-1, 1); return enlarger(damage(small, level), ...).clamp(-1, 1)"),
    cases=lambda: [(_base, _damage, _enlarge, ["red heart", "dog"], 0.3),
                   (_base, _damage, _enlarge, ["a cat", "", "two trees"], 0.5)],
    mistakes=(
        (_system(text=False),
         lambda base, damage, enlarger, texts, level: _system(text=False)(
             base, damage, lambda low, told: enlarger(low, told, [""] * len(texts)), texts, level),
         "the enlarger is not told the text: it, too, must guess details, and draws what the text says."),
        (_system(first=lambda x: x),
         "the small picture is not held within -1 .. 1: the enlarger met no such picture in training."),
        (_system(first=lambda x: x, second=_in_range), _system(second=_in_range),
         "the noise is clipped as well: hold the small picture within -1 .. 1, then damage it."),
        (_system(damage=False), "nothing is damaged: the enlarger is told of noise that is not there."),
        (_system(told=lambda level: 0.0), _system(damage=False, told=lambda level: 0.0),
         "the enlarger is told that nothing is damaged: give it level."),
        (_system(last=lambda x: x), "the large picture is not held within -1 .. 1."),
        (lambda base, damage, enlarger, texts, level: base(texts).clamp(-1, 1),
         lambda base, damage, enlarger, texts, level: base(texts),
         "that is the small picture: enlarge it."),
    ),
)
def cascade(base, damage, enlarger, texts, level):
    """Text -> small picture -> large picture, as Imagen does it.

    base: base(texts) gives small pictures (B, 3, h, w), which may leave [-1, 1]. damage: damage(small,
    level) puts noise on them. enlarger: enlarger(low_res, level, texts) gives (B, 3, H, W), which may
    leave [-1, 1], too. texts: a list of B texts. level: a number, 0 .. 1.
    Returns the large pictures, (B, 3, H, W) in [-1, 1].
    """
    small = base(texts).clamp(-1, 1)
    return enlarger(damage(small, level), level, texts).clamp(-1, 1)
