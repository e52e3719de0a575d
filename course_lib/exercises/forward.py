"""Exercises of notebook 01, the forward process: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps."""
import math

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
        (lambda b: (-b.cumsum(0)).exp(),
         "exp(-(beta_1 + ... + beta_t)) is only nearly right, where the betas are small. Multiply the shares "
         "1 - beta."),
        (lambda b: (1 - b).cumsum(0), "you add up the shares that are kept. Shares multiply: cumprod."),
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


def mix(a, s, earlier=(0, 0)):
    """The forward process with other coefficients, a(abar_t) and s(abar_t), or those of an earlier t."""
    def x_t(x0, t, eps, abar):
        return like(a(abar[t - earlier[0]]), x0) * x0 + like(s(abar[t - earlier[1]]), x0) * eps
    return x_t


def _one_step(x0, t, eps, abar):
    alpha = like(abar[t] / abar[t - 1], x0)
    return alpha.sqrt() * x0 + (1 - alpha).sqrt() * eps


def _repeats(f):
    args = _pictures(4)
    return torch.allclose(f(*args), f(*args), equal_nan=True)


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
        (mix(torch.sqrt, lambda ab: 1 - ab.sqrt()),
         "a + s = 1 is not what keeps the variance: a^2 + s^2 = 1. So s = sqrt(1 - abar)."),
        (mix(torch.sqrt, lambda ab: (1 - ab.sqrt()).sqrt()),
         "s is off: abar itself stands under the root, s = sqrt(1 - abar), not sqrt(1 - sqrt(abar))."),
        (mix(torch.sqrt, lambda ab: -(1 - ab).sqrt()), "the noise is added, not subtracted."),
        (mix(lambda ab: ab, lambda ab: 1 - ab),
         "the square roots are missing: the variance is abar^2 + (1 - abar)^2, a dip in the middle, "
         "instead of 1."),
        (mix(lambda ab: ab.sqrt(), lambda ab: 1 - ab),
         "a square root is missing on 1 - abar: at half way the noise is too weak."),
        (mix(lambda ab: ab, lambda ab: (1 - ab).sqrt()),
         mix(lambda ab: ab, lambda ab: (1 - ab**2).sqrt()),
         "a square root is missing on abar: the picture fades too early."),
        (mix(lambda ab: (1 - ab).sqrt(), lambda ab: ab.sqrt()),
         "the coefficients are swapped: at t near 0 you return noise, at t = T the picture."),
        (mix(lambda ab: torch.ones_like(ab), lambda ab: (1 - ab).sqrt()),
         "the picture is not shrunk, so the variance grows to 2 instead of staying 1."),
        (*(mix(torch.sqrt, lambda ab: (1 - ab).sqrt(), slip) for slip in ((1, 1), (1, 0), (0, 1))),
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


# ---- cosine_abar ------------------------------------------------------------------------------

def _cosine(T, offset, power=2, first=0, norm=True):
    u = torch.arange(first, T + 1, dtype=torch.float64) / T
    f = ((u + offset) / (1 + offset) * math.pi / 2).cos() ** power
    return f / math.cos(offset / (1 + offset) * math.pi / 2) ** power if norm else f


def _angle(T, angle, norm=True):
    """cos^2 of another angle(t / T)."""
    f = angle(torch.arange(T + 1, dtype=torch.float64) / T).cos() ** 2
    return f / f[0] if norm else f


def _cosine_beta(T, offset, most=1.0):
    abar = _cosine(T, offset)
    return (1 - abar[1:] / abar[:-1]).clamp(max=most)


def _clipped(T, offset=0.008):
    return torch.cat([torch.ones(1), (1 - _cosine_beta(T, offset, 0.999)).cumprod(0)])


@problem(
    works="abar falls from 1 to 0 along a squared cosine. To build a chain from it, clip "
          "beta_t = 1 - abar_t / abar_(t-1) at 0.999: the last one is 1.",
    hints=("f(t) = cos^2 of an angle that grows from almost 0 to pi / 2 while t goes from 0 to T.",
           "The angle is (t / T + offset) / (1 + offset) * pi / 2; abar_t = f(t) / f(0).",
           "f = torch.cos((torch.arange(T + 1) / T + offset) / ...) ** 2, then f / f[0]."),
    cases=lambda: [(1000,), (10, 0.008), (50, 0.1)],
    mistakes=(
        (lambda T, offset=0.008: _cosine(T, offset, norm=False),
         "abar_0 must be 1, the clean picture: divide by f(0)."),
        (lambda T, offset=0.008: _cosine(T, offset, power=1),
         lambda T, offset=0.008: _cosine(T, offset, power=1, norm=False),
         "that is cos, not cos^2: abar is the square of the picture's factor."),
        (lambda T, offset=0.008: _cosine_beta(T, offset),
         "you return beta_t, not abar_t. And used unclipped, beta_T = 1 divides by zero later, as "
         "1 / sqrt(1 - beta_T)."),
        (lambda T, offset=0.008: _cosine_beta(T, offset, 0.999),
         lambda T, offset=0.008: torch.cat([torch.zeros(1), _cosine_beta(T, offset, 0.999)]),
         "you return beta_t, not abar_t. Return f(t) / f(0) itself."),
        (lambda T, offset=0.008: _cosine(T, offset, first=1),
         lambda T, offset=0.008: _cosine(T, offset, first=1, norm=False),
         "step 0 is missing: return T + 1 numbers, and abar_0 is 1."),
        (lambda T, offset=0.008: _cosine(T, offset)[:-1],
         lambda T, offset=0.008: _cosine(T, offset, norm=False)[:-1],
         "step T is missing: return T + 1 numbers, for t = 0, 1, ..., T."),
        (lambda T, offset=0.008: _angle(T, lambda u: u + offset / (1 + offset) * math.pi / 2),
         lambda T, offset=0.008: _angle(T, lambda u: u + offset / (1 + offset) * math.pi / 2, norm=False),
         lambda T, offset=0.008: _angle(T, lambda u: (u + offset / (1 + offset)) * math.pi / 2),
         "brackets: t / T + offset belongs together, (t / T + offset) / (1 + offset), all of it times "
         "pi / 2."),
        (lambda T, offset=0.008: _angle(T, lambda u: (u + offset) / (1 + offset) * math.pi),
         lambda T, offset=0.008: _angle(T, lambda u: (u + offset) / (1 + offset) * math.pi, norm=False),
         "the angle goes to pi, so that abar rises again in the second half: multiply by pi / 2."),
        (lambda T, offset=0.008: _angle(T, lambda u: (u + offset) / (1 + offset)),
         "pi / 2 is missing: the angle must grow to a quarter of a circle."),
        (lambda T, offset=0.008: _angle(T, lambda u: (u + offset) * math.pi / 2),
         "divide by 1 + offset: at t = T the angle must be pi / 2, not more."),
        (lambda T, offset=0.008: _angle(T, lambda u: u / (1 + offset) * math.pi / 2),
         lambda T, offset=0.008: _cosine(T, 0.0),
         "the offset is not used. It keeps the first steps from being too small."),
        (lambda T, offset=0.008: 1 - _cosine(T, offset),
         "that rises from 0 to 1: it is 1 - abar_t, the variance of the noise."),
    ),
    also=(_clipped,),
)
def cosine_abar(T, offset=0.008):
    """The cosine schedule: abar_t = f(t) / f(0), f(t) = cos^2((t / T + offset) / (1 + offset) * pi / 2).

    T: number of steps. offset: a small number. (Nichol & Dhariwal 2021, eq. 17.)
    Returns abar_0 .. abar_T, (T+1,): it starts at 1 and ends at (almost) 0.
    """
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + offset) / (1 + offset) * math.pi / 2) ** 2
    return f / f[0]
