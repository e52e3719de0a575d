"""Exercises of notebook 02, the time: how a network is told a number between 0 and 1000."""
import math

import torch

from . import problem

# ---- time_features: many designs are right, so the features must be bounded, distinct, smooth ----

_TIMES = torch.arange(1001)


def _gaps(f):
    """Distances between the features of all pairs of times, (1001, 1001)."""
    h = f(_TIMES.clone(), 32).double()
    return torch.cdist(h, h, compute_mode="donot_use_mm_for_euclid_dist")


def _share(f, rule):
    """The share of the columns for which the rule is true."""
    return rule(f(_TIMES.clone(), 32).double()).double().mean()


def _same_alone(f):
    few = torch.tensor([3, 700])
    return torch.allclose(f(few, 32), f(_TIMES.clone(), 32)[few], atol=1e-5)


@problem(
    works="every time from 0 to 1000 has its own bounded features, and neighbours look alike.",
    hints=("Use waves of many lengths: the fast ones tell neighbours apart, the slow ones order "
           "distant times.",
           "dim / 2 frequencies from 1 down to about 1/10,000, in equal ratios; sin and cos of each.",
           "freq = torch.exp(-math.log(10_000) * torch.arange(dim // 2) / (dim // 2)), then the sin "
           "and cos of t[:, None] * freq, side by side."),
    cases=lambda: [(_TIMES.clone(), 32), (torch.tensor([1, 500]), 8)],
    limits=(
        (lambda f: f(_TIMES.clone(), 32).shape == (1001, 32) and f(_TIMES[:2].clone(), 8).shape == (2, 8),
         "the shape must be (B, dim): sines and cosines together make dim columns."),
        (lambda f: f(_TIMES.clone(), 32).isfinite().all(),
         "some features are NaN or infinite."),
        (lambda f: f(_TIMES.clone(), 32).abs().max() < 20,
         "the features are unbounded: a network copes badly with inputs up to 1000. sin and cos "
         "stay between -1 and 1."),
        (_same_alone,
         "the same time must always get the same features: draw random frequencies once, from a "
         "fixed seed, and use nothing that depends on the rest of the batch."),
        (lambda f: _share(f, lambda h: (h == h[0]).all(dim=0)) < 0.2,
         "many columns are the same for all t, all zero or all one. Is there integer maths (//, "
         ".long()) that rounds small frequencies to 0?"),
        (lambda f: _share(f, lambda h: h.std(dim=0) < 0.01) < 0.3,
         "most columns hardly change from t = 0 to t = 1000: the waves are too slow. Is t divided by 1000? "
         "The fastest wave has the frequency 1, which tells t from t + 1."),
        (lambda f: (_gaps(f) + torch.eye(1001)).min() > 0.01,
         "distant t collide, or neighbours can hardly be told apart: some pairs of times get nearly "
         "the same features. One frequency is not enough; use many, from fast to slow."),
        (lambda f: _gaps(f).diagonal(1).mean() < 0.8 * _gaps(f).mean(),
         "the features are not smooth: t and t + 1 are as far apart as any two times. Start at "
         "frequency 1 and go down."),
    ),
    exact=False,
)
def time_features(t, dim):
    """Turn a time into dim numbers that a network can use.

    t: (B,) int64 in 0 .. 1000. dim: an even number.
    Returns (B, dim) floats that are bounded, different for different t, and close for t close by.
    """
    half = dim // 2
    freq = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angle = t.float()[:, None] * freq
    return torch.cat([angle.sin(), angle.cos()], dim=1)
