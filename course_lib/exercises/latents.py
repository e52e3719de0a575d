"""Exercises of notebook 04, latent decoder: training pairs, the VAE's two formulas, tokens, scale."""
import torch
from torch.nn import functional as F

from ..schedules import like
from . import normal, problem

# ---- make_pair --------------------------------------------------------------------------------

def _pictures():
    return [(normal(2, 3, 16, 16).clamp(-1, 1),), (normal(1, 3, 64, 64, seed=1).clamp(-1, 1),)]


def _small(x):
    return F.avg_pool2d(x, 4)


def _pick(i, j):
    """One pixel of 16."""
    return lambda x: (x[..., i::4, j::4], x)


def _resized(mode, **options):
    return lambda x: (F.interpolate(x, scale_factor=0.25, mode=mode, **options), x)


def _far_apart(x):
    B, C, h, w = x.shape
    return x.reshape(B, C, 4, h // 4, 4, w // 4).mean(dim=(2, 4)), x


def _middle(x):
    squares = x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    return squares.median(dim=-1).values, x


@problem(
    works="every pixel of the small picture is the mean of a square of 16: a training pair, no label.",
    hints=("A small pixel should stand for all the 16 large ones that it replaces.",
           "Average squares of 4 x 4 pixels; F.avg_pool2d does it. Return the small one first.",
           "return F.avg_pool2d(x, ...), x"),
    cases=_pictures,
    parts=("small", "x"),
    mistakes=(
        (*(_pick(i, j) for i in range(4) for j in range(4)),
         "one pixel of 16 is kept and 15 are dropped: fine lines vanish or flicker (aliasing)."),
        (*(_resized(mode, align_corners=c) for mode in ("bilinear", "bicubic") for c in (False, True)),
         "without `antialias=True` that looks at a few of the 16 pixels only (aliasing). Average all 16."),
        (_resized("bilinear", antialias=True), _resized("bicubic", antialias=True),
         "no aliasing, but no plain mean either: this filter also weighs pixels of the squares around. Take "
         "the mean of the 16 alone."),
        (_far_apart,
         "the 16 pixels of a mean are far apart: they must form a square. Which axes did reshape make?"),
        (_middle, "the median of 16 is not their mean."),
        (lambda x: (-F.max_pool2d(-x, 4), x), "the darkest pixel of 16 is not their mean."),
        (lambda x: (F.max_pool2d(x, 4), x), "the brightest pixel of 16 is not their mean."),
        (lambda x: (x, _small(x)), "the pair is the wrong way round: the small picture comes first."),
        (lambda x: (F.interpolate(_small(x), scale_factor=4), x),
         "the small picture is blown up again: return it small, (B, 3, S / 4, S / 4)."),
        (lambda x: _small(x), "the large picture, the target, is missing: return both."),
        (lambda x: (F.avg_pool2d(x, 2), x), "that halves the picture; it must become 4 times smaller."),
    ),
)
def make_pair(x):
    """The training pair of a decoder that enlarges by 4.

    x: pictures (B, 3, S, S), S a multiple of 4.
    Returns (small, x), small (B, 3, S / 4, S / 4): each pixel the mean of a square of 4 x 4.
    """
    return F.avg_pool2d(x, 4), x


# ---- damage -----------------------------------------------------------------------------------

def _damaged_cases():
    small, eps = normal(3, 3, 4, 4).clamp(-1, 1), normal(3, 3, 4, 4, seed=1)
    return [(small, torch.tensor([0.0, 0.3, 0.5]), eps), (small, torch.tensor([1.0, 0.9, 0.1]), eps)]


def _damage(a=lambda s: (1 - s**2).sqrt(), s=lambda s: s):
    return lambda small, level, eps: (a(level[:, None, None, None]) * small
                                      + s(level[:, None, None, None]) * eps)


def _after(small, level, eps):
    large = F.interpolate(small, scale_factor=4)
    return _damage()(large, level, F.interpolate(eps, scale_factor=4))


@problem(
    works="a small picture with the flaws of a generated one, and a known amount of them.",
    hints=("It is the forward process again, with the noise level given by its share s of noise.",
           "a^2 + s^2 = 1, so a = sqrt(1 - s^2). The level has one number a picture: shape it.",
           "s = level[:, None, None, None]; return (1 - s**2).sqrt() * ... + s * ..."),
    cases=_damaged_cases,
    mistakes=(
        (_damage(a=lambda s: 1.0), "the picture must shrink as noise comes in: a = sqrt(1 - s^2)."),
        (_damage(a=lambda s: 1 - s), "a + s = 1 is not what keeps the variance: a^2 + s^2 = 1."),
        (_damage(a=lambda s: (1 - s).sqrt(), s=lambda s: s.sqrt()), _damage(s=lambda s: s**2),
         "level is s itself, the factor of the noise, not its square."),
        (_damage(a=lambda s: s, s=lambda s: (1 - s**2).sqrt()),
         "the factors are exchanged: level is that of the noise. At level 0 the picture stays as it is."),
        (_damage(s=lambda s: -s), "the noise is added, not subtracted."),
        (_damage(s=lambda s: 0.0), "there is no noise: eps is unused."),
        (_after, "noise comes first, enlarging later: noise that was enlarged is squares of 4 x 4."),
        (lambda x, level, e: _damage()(x, level[:1].expand(len(x)), e),
         "each picture has its own level: reshape level to (B, 1, 1, 1)."),
    ),
)
def damage(small, level, eps):
    """Noise on the small picture of a super-resolution pair (Ho et al. 2022, noise augmentation).

    small: (B, 3, h, w) in [-1, 1]. level: (B,) in 0 .. 1, the factor s of the noise. eps: standard
    normal noise, like small.
    Returns a small + s eps with a^2 + s^2 = 1, like small.
    """
    s = like(level, small)  # (B, 1, 1, 1)
    return (1 - s**2).sqrt() * small + s * eps
