"""Exercises of notebook 01, the forward process: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps."""
import math
from itertools import pairwise

import torch

from ..schedules import DDPM, like
from . import normal, problem

# ---- alpha_bar --------------------------------------------------------------------------------

@problem(
    works="abar_t is the share of the picture's variance that is left after t steps.",
    hints=("Each step keeps the share 1 - beta of the variance. What is left after two steps?",
           "You need the product of all 1 - beta so far, for every t: a running product.",
           "Use torch.cumprod(..., dim=0), and think about what to multiply."),
    cases=lambda: [(torch.tensor([0.1, 0.2, 0.4]),), (DDPM(1000).beta[1:],)],
    mistakes=(
        (lambda b: b.cumprod(0),
         lambda b: 1 - b.cumprod(0),
         "you multiplied what is lost in each step (beta); multiply what is kept, 1 - beta."),
        (lambda b: (1 - b).cumprod(0).sqrt(),
         "that is a_t, the factor of the picture. abar_t is its square: leave out the root."),
        (lambda b: 1 - b.cumsum(0),
         "adding up the betas is the linearised version; for many steps it goes negative. "
         "Shares multiply."),
        (lambda b: torch.cat([torch.ones(1), (1 - b).cumprod(0)]),
         lambda b: torch.cat([torch.ones(1), (1 - b).cumprod(0)[:-1]]),
         "there is a leading 1: here index 0 must be step 1, so the first number is 1 - betas[0]."),
        (lambda b: 1 - (1 - b).cumprod(0),
         "that is 1 - abar_t, the variance of the noise, not what is left of the picture."),
        (lambda b: (1 - b).prod(),
         "that is the product over all steps, one number. Give the product so far, for every t."),
        (lambda b: 1 - b,
         "that is alpha_t, what one step keeps. abar_t is the product of all of them up to t."),
    ),
)
def alpha_bar(betas):
    """How much is left after t steps? One step keeps the share 1 - beta_t of the variance.

    betas: (T,) variances of the steps 1 .. T, so betas[0] belongs to step 1.
    Returns abar_1 .. abar_T, (T,): the share of x_0's variance that is left after each step.
    """
    return (1 - betas).cumprod(dim=0)


# ---- q_sample ---------------------------------------------------------------------------------

def _pictures(B):
    """B small pictures with very different times, and the linear schedule."""
    t = torch.tensor([500, 1, 1000, 150])[:B]
    return normal(B, 3, 4, 4), t, normal(B, 3, 4, 4, seed=1), DDPM(1000).abar.float()


def _mix(a, s):
    """The forward process with other coefficients a(abar_t), s(abar_t)."""
    return lambda x0, t, eps, abar: like(a(abar[t]), x0) * x0 + like(s(abar[t]), x0) * eps


def _one_step(x0, t, eps, abar):
    alpha = like(abar[t] / abar[t - 1], x0)
    return alpha.sqrt() * x0 + (1 - alpha).sqrt() * eps


def _repeats(f):
    args = _pictures(4)
    return torch.allclose(f(*args), f(*args))


@problem(
    works="any x_t comes in one jump from x_0, with its own t for every picture.",
    hints=("x_t = a x_0 + s eps. Which power of abar_t is a, so that the variance stays 1?",
           "a = sqrt(abar_t), s = sqrt(1 - abar_t). abar[t] has the shape (B,): it needs three more "
           "axes before it meets a picture.",
           "ab = abar[t].reshape(-1, 1, 1, 1), then ab.sqrt() * x0 + ... * eps."),
    cases=lambda: [_pictures(4), _pictures(2), _pictures(3)],  # as many as columns, fewer, channels
    mistakes=(
        (lambda x0, t, eps, abar: abar[t].sqrt() * x0 + (1 - abar[t]).sqrt() * eps,
         "abar[t] has the shape (B,) and meets the last axis: a batch of 16 at 16 px broadcasts "
         "silently along the columns. Give it the shape (B, 1, 1, 1)."),
        (lambda x0, t, eps, abar: (abar[t].sqrt()[:, None, None] * x0
                                   + (1 - abar[t]).sqrt()[:, None, None] * eps),
         "with the shape (B, 1, 1) the coefficients meet the channels. They need (B, 1, 1, 1)."),
        (_mix(lambda ab: ab, lambda ab: 1 - ab),
         "the square roots are missing: the variance is abar^2 + (1 - abar)^2, a dip in the middle, "
         "instead of 1."),
        (_mix(lambda ab: ab.sqrt(), lambda ab: 1 - ab),
         "a square root is missing on 1 - abar: at half way the noise is too weak."),
        (_mix(lambda ab: ab, lambda ab: (1 - ab).sqrt()),
         _mix(lambda ab: ab, lambda ab: (1 - ab**2).sqrt()),
         "a square root is missing on abar: the picture fades too early."),
        (_mix(lambda ab: (1 - ab).sqrt(), lambda ab: ab.sqrt()),
         "the coefficients are swapped: at t near 0 you return noise, at t = T the picture."),
        (_mix(lambda ab: torch.ones_like(ab), lambda ab: (1 - ab).sqrt()),
         "the picture is not shrunk, so the variance grows to 2 instead of staying 1."),
        (lambda x0, t, eps, abar: _mix(torch.sqrt, lambda ab: (1 - ab).sqrt())(x0, t - 1, eps, abar),
         "that is x_(t-1): abar[0] = 1 is the clean picture, so step t is abar[t], not abar[t - 1]."),
        (_one_step,
         "beta_t takes you one step, not t steps. The product abar_t jumps all the way from x_0."),
    ),
    limits=(
        (_repeats, "you draw your own noise. Use the eps that is given: x0 = 0 must return s * eps."),
    ),
)
def q_sample(x0, t, eps, abar):
    """Jump straight to x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps.

    x0, eps: (B, C, H, W), pictures and standard normal noise. t: (B,) int64 in 1 .. T, one time
    per picture. abar: (T+1,), abar[0] = 1, so abar[t] is the paper's symbol.
    Returns x_t, (B, C, H, W).
    """
    return like(abar[t].sqrt(), x0) * x0 + like((1 - abar[t]).sqrt(), x0) * eps


# ---- forward_chain: any order of random numbers is right, so it is judged in distribution -------

_BETAS = torch.linspace(0.1, 0.5, 8)


def _chain_case(seed=0):
    """512 grey pictures of 16 pixels, all 2.0: the mean shows the shrinking, the sd the noise."""
    return torch.full((512, 1, 4, 4), 2.0), _BETAS.clone(), torch.Generator().manual_seed(seed)


def _path(f, seed=0):
    path = f(*_chain_case(seed))
    return path if torch.is_tensor(path) else torch.stack(list(path))


def _z(f):
    """The noise that must have been added in each step, (T, 512, 16); N(0, 1) if f is right."""
    path, beta = _path(f).flatten(2), _BETAS.reshape(-1, 1, 1)
    return (path[1:] - (1 - beta).sqrt() * path[:-1]) / beta.sqrt()


def _correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].nan_to_num()


# 8,192 numbers per step: a mean is uncertain by 0.011, a standard deviation by 0.008
_CHAIN_RULES = (
    (lambda f: _path(f).shape == (9, 512, 1, 4, 4),
     "the path needs T + 1 entries of x0's shape: path[0] is x0, then one entry for each step."),
    (lambda f: torch.equal(_path(f)[0], _chain_case()[0]),
     "path[0] is x0, still without noise; path[t] is what t steps made of it."),
    (lambda f: torch.equal(_path(f), _path(f)),
     "two runs with the same seed differ. Draw with torch.randn(..., generator=gen)."),
    (lambda f: not torch.equal(_path(f), _path(f, seed=1)),
     "the seed of gen changes nothing. Draw the noise with torch.randn(..., generator=gen)."),
    (lambda f: _z(f).std(dim=1).min() > 1e-3 and _z(f).std(dim=2).min() > 1e-3,
     "some pictures or pixels share their noise. Draw z with the full shape of x0."),
    (lambda f: _z(f)[0].min() < -0.01,
     "the noise is never negative: torch.rand is uniform on 0 .. 1. Use torch.randn."),
    (lambda f: _path(f)[-1].mean() < 1.3,
     "the picture is not shrunk: without sqrt(1 - beta) the sd at T is above 1, and the mean "
     "never goes to 0."),
    (lambda f: (_path(f)[1].mean() - 2 * (1 - _BETAS[0]).sqrt()).abs() < 0.03,
     "the mean after one step is off: the factor of x_(t-1) is sqrt(1 - beta_t), and step 1 uses "
     "betas[0]."),
    (lambda f: (_z(f)[0].std() - _BETAS[0].sqrt()).abs() > 0.05,
     "the noise has the variance beta^2: multiply z by sqrt(beta_t), not by beta_t."),
    (lambda f: _correlation(*_path(f)[-2:]) > 0.3,
     "each x_t is drawn anew from x_0. In a chain x_t grows out of x_(t-1)."),
    (lambda f: all(_correlation(*pair).abs() < 0.1 for pair in pairwise(_z(f))),
     "the same z comes back: the steps must be independent, so draw a new z in each of them."),
    (lambda f: (_z(f).std(dim=(1, 2)) - 1).abs().max() < 0.05,
     "the steps do not have the variances betas: step t uses betas[t - 1], in this order."),
)


@problem(
    works="t small steps, shrink and add, in a chain that keeps the variance at 1.",
    hints=("One step is x_t = sqrt(1 - beta_t) x_(t-1) + sqrt(beta_t) z_t, with a new z_t each time.",
           "Start a list with x0, loop over betas, append, and torch.stack at the end.",
           "z = torch.randn(x.shape, generator=gen); x = (1 - b).sqrt() * x + ... * z"),
    cases=lambda: [_chain_case()],
    limits=_CHAIN_RULES,
    exact=False,
)
def forward_chain(x0, betas, gen):
    """Walk the chain: x_t = sqrt(1 - beta_t) x_(t-1) + sqrt(beta_t) z_t, z_t ~ N(0, I).

    x0: (B, C, H, W). betas: (T,), betas[0] belongs to step 1. gen: a torch.Generator for the noise.
    Returns the whole path, (T+1, B, C, H, W), path[0] = x0.
    """
    path = [x0]
    for beta in betas:
        z = torch.randn(x0.shape, generator=gen)
        path.append((1 - beta).sqrt() * path[-1] + beta.sqrt() * z)
    return torch.stack(path)


# ---- cosine_abar ------------------------------------------------------------------------------

def _cosine(T, s, power=2, first=0, norm=True):
    u = torch.arange(first, T + 1, dtype=torch.float64) / T
    f = ((u + s) / (1 + s) * math.pi / 2).cos() ** power
    return f / math.cos(s / (1 + s) * math.pi / 2) ** power if norm else f


def _cosine_beta(T, s, most=1.0):
    abar = _cosine(T, s)
    return (1 - abar[1:] / abar[:-1]).clamp(max=most)


def _clipped(T, s=0.008):
    return torch.cat([torch.ones(1), (1 - _cosine_beta(T, s, 0.999)).cumprod(0)])


@problem(
    works="abar falls from 1 to 0 along a squared cosine. To build a chain from it, clip "
          "beta_t = 1 - abar_t / abar_(t-1) at 0.999: the last one is 1.",
    hints=("f(t) = cos^2 of an angle that grows from almost 0 to pi / 2 while t goes from 0 to T.",
           "The angle is (t / T + s) / (1 + s) * pi / 2; abar_t = f(t) / f(0).",
           "f = torch.cos((torch.arange(T + 1) / T + s) / ...) ** 2, then f / f[0]."),
    cases=lambda: [(1000,), (10, 0.008), (50, 0.1)],
    mistakes=(
        (lambda T, s=0.008: _cosine(T, s, norm=False),
         "abar_0 must be 1, the clean picture: divide by f(0)."),
        (lambda T, s=0.008: _cosine(T, s, power=1),
         lambda T, s=0.008: _cosine(T, s, power=1, norm=False),
         "that is cos, not cos^2: abar is the square of the picture's factor."),
        (lambda T, s=0.008: _cosine_beta(T, s),
         "you return beta_t, not abar_t. And used unclipped, beta_T = 1 divides by zero later, as "
         "1 / sqrt(1 - beta_T)."),
        (lambda T, s=0.008: _cosine_beta(T, s, 0.999),
         lambda T, s=0.008: torch.cat([torch.zeros(1), _cosine_beta(T, s, 0.999)]),
         "you return beta_t, not abar_t. Return f(t) / f(0) itself."),
        (lambda T, s=0.008: _cosine(T, s, first=1),
         lambda T, s=0.008: _cosine(T, s, first=1, norm=False),
         "step 0 is missing: return T + 1 numbers, and abar_0 is 1."),
        (lambda T, s=0.008: _cosine(T, 0.0),
         "the offset s is not used. It keeps the first steps from being too small."),
        (lambda T, s=0.008: 1 - _cosine(T, s),
         "that rises from 0 to 1: it is 1 - abar_t, the variance of the noise."),
    ),
    also=(_clipped,),
)
def cosine_abar(T, s=0.008):
    """The cosine schedule: abar_t = f(t) / f(0), f(t) = cos^2((t / T + s) / (1 + s) * pi / 2).

    T: number of steps. s: a small offset. (Nichol & Dhariwal 2021, eq. 17.)
    Returns abar_0 .. abar_T, (T+1,): it starts at 1 and ends at (almost) 0.
    """
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s) * math.pi / 2) ** 2
    return f / f[0]
