"""Exercises of notebook 04, latent decoder: training pairs, the VAE's two formulas, tokens, scale."""
import torch
from torch.nn import functional as F

from . import normal, problem

# ---- make_pair --------------------------------------------------------------------------------

def _pictures():
    return [(normal(2, 3, 16, 16).clamp(-1, 1),), (normal(1, 3, 64, 64, seed=1).clamp(-1, 1),)]


def _small(x):
    return F.avg_pool2d(x, 4)


@problem(
    works="every pixel of the small picture is the mean of a square of 16: a training pair, no label.",
    hints=("A small pixel should stand for all the 16 large ones that it replaces.",
           "Average squares of 4 x 4 pixels; F.avg_pool2d does it. Return the small one first.",
           "return F.avg_pool2d(x, ...), x"),
    cases=_pictures,
    mistakes=(
        (lambda x: (x[..., ::4, ::4], x), lambda x: (F.interpolate(x, scale_factor=0.25), x),
         "one pixel of 16 is kept and 15 are dropped: fine lines vanish or flicker (aliasing)."),
        (lambda x: (F.interpolate(x, scale_factor=0.25, mode="bilinear"), x),
         lambda x: (F.interpolate(x, scale_factor=0.25, mode="bicubic"), x),
         "without `antialias=True` that looks at a few of the 16 pixels only (aliasing)."),
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
    return _small(x), x


# ---- kl_std_normal ----------------------------------------------------------------------------

def _clouds():
    return [(normal(3, 4), normal(3, 4, seed=1)), (normal(2, 2, 3, 3, seed=2), normal(2, 2, 3, 3, seed=3)),
            (torch.zeros(2, 5), torch.zeros(2, 5))]


def _kl(each=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar),
        over=lambda kl: kl.flatten(1).sum(1)):
    return lambda mu, logvar: over(each(mu, logvar))


@problem(
    works="nats per picture; zero for a cloud that equals the prior, and positive for every other.",
    hints=("Per number it is (mu^2 + sigma^2 - 1 - ln sigma^2) / 2; what is logvar in it?",
           "sigma^2 = logvar.exp() and ln sigma^2 = logvar. Add up all numbers of a sample.",
           "return 0.5 * (mu**2 + ... - 1 - ...).flatten(1).sum(1)"),
    cases=_clouds,
    mistakes=(
        (_kl(lambda m, v: -0.5 * (m**2 + v.exp() - 1 - v)),
         "a KL divergence is never negative: the sign is wrong."),
        (_kl(lambda m, v: m**2 + v.exp() - 1 - v), "the factor 1/2 is missing."),
        (_kl(over=lambda kl: kl.flatten(1).mean(1)),
         "the mean over the numbers is a hidden beta = 1/d: independent numbers add up, so sum."),
        (_kl(over=lambda kl: kl.sum()), _kl(over=lambda kl: kl.mean()),
         _kl(over=lambda kl: kl.flatten(1).sum(1).mean()),
         "the samples are mixed: return one number for each of the B, (B,)."),
        (_kl(over=lambda kl: kl), "the numbers of a sample are not added up: return (B,)."),
        (_kl(lambda m, v: 0.5 * (m**2 + (2 * v).exp() - 1 - 2 * v)),
         "you take logvar as ln sigma; it is ln sigma^2."),
        (_kl(lambda m, v: 0.5 * (m**2 + v**2 - 1 - (v**2).log())),
         "you take logvar as sigma; it is ln sigma^2."),
        (_kl(lambda m, v: 0.5 * (m**2 + v - 1 - v.log())),
         "you take logvar as sigma^2; it is ln sigma^2."),
        (_kl(lambda m, v: 0.5 * (m**2 + v.exp() - v)),
         "the -1 is missing: for mu = 0, sigma = 1 the result must be 0."),
        (_kl(lambda m, v: 0.5 * (m.abs() + v.exp() - 1 - v)), "mu enters squared."),
    ),
)
def kl_std_normal(mu, logvar):
    """KL(N(mu, e^logvar) || N(0, I)) of every sample, in nats.

    mu, logvar: (B, ...), the mean and ln sigma^2 of each latent number.
    Returns (B,): summed over the numbers of a sample.
    """
    return _kl()(mu, logvar)


# ---- reparam ----------------------------------------------------------------------------------

def _noisy_clouds():
    return [(mu, logvar, normal(*mu.shape, seed=9)) for mu, logvar in _clouds()]


def _gradients(f):
    """Those of sum(f) for mu and logvar; None where there is none."""
    mu, logvar, eps = _noisy_clouds()[0]
    mu.requires_grad_()
    logvar.requires_grad_()
    out = f(mu, logvar, eps)
    if not out.requires_grad:
        return None, None
    return torch.autograd.grad(out.sum(), (mu, logvar), allow_unused=True)


@problem(
    works="a draw from the cloud, and the gradient reaches mu and sigma.",
    hints=("eps has mean 0 and variance 1. How does it become a draw with mean mu and sd sigma?",
           "z = mu + sigma eps with sigma = e^(logvar / 2).",
           "return mu + torch.exp(... * logvar) * eps"),
    cases=_noisy_clouds,
    mistakes=(
        (lambda m, v, e: m + v.exp() * e, "e^logvar is sigma^2. Take its root: e^(logvar / 2)."),
        (lambda m, v, e: m + v * e, "logvar is a logarithm: sigma = e^(logvar / 2)."),
        (lambda m, v, e: m + (2 * v).exp() * e, "sigma = e^(logvar / 2): halve, do not double."),
        (lambda m, v, e: (0.5 * v).exp() * e, "mu is missing: the draws lie around it."),
        (lambda m, v, e: m + e, "sigma is missing: the draws are as wide as the prior."),
        (lambda m, v, e: m, "there is no noise: that is the mean of the cloud, not a draw."),
        (lambda m, v, e: m + (0.5 * v).exp() * e[:1],
         "one eps for the whole batch: every sample needs its own."),
    ),
    limits=(
        (lambda f: _gradients(f)[0] is not None,
         "the numbers are right, but mu gets no gradient: the encoder would learn nothing. "
         "Avoid detach, no_grad and .data."),
        (lambda f: _gradients(f)[1] is not None,
         "the numbers are right, but logvar gets no gradient: the clouds could not learn their width."),
    ),
)
def reparam(mu, logvar, eps):
    """A draw z from N(mu, e^logvar) that lets gradients through (the reparameterisation trick).

    mu, logvar: (B, ...). eps: standard normal noise, like mu.
    Returns z, like mu.
    """
    return mu + torch.exp(0.5 * logvar) * eps


# ---- straight_through -------------------------------------------------------------------------

def _gradient(f):
    z = (3 * normal(4, 5)).requires_grad_()
    out = f(z)
    return torch.autograd.grad((out * normal(4, 5, seed=7)).sum(), z)[0] if out.requires_grad else None


@problem(
    works="forwards a whole number, backwards as if nothing had happened.",
    hints=("The result must equal z.round(), and its gradient that of z.",
           "Write round(z) = z + (round(z) - z). Through which of the two parts shall gradients go?",
           "return z + (z.round() - z)...."),
    cases=lambda: [(3 * normal(4, 5),), (torch.tensor([0.2, -0.7, 1.6]),)],
    mistakes=(
        (lambda z: z, "nothing is rounded: there would be no tokens."),
        (lambda z: z.floor(), lambda z: z.trunc(), "round to the nearest whole number."),
    ),
    limits=(
        (lambda f: _gradient(f) is not None and _gradient(f).abs().sum() > 0,
         "the numbers are right, but the gradient is 0: rounding is flat almost everywhere, and the "
         "encoder would learn nothing. Let the gradient go straight through."),
        (lambda f: same_gradient(_gradient(f)), "the gradient must be that of z itself: a factor of 1."),
    ),
)
def straight_through(z):
    """Rounding for the forward pass, the identity for the backward pass (Bengio et al. 2013).

    z: any shape. Returns z rounded to whole numbers, like z.
    """
    return z + (z.round() - z).detach()


def same_gradient(g):
    """Whether a gradient is the one that came in from behind."""
    return torch.allclose(g, normal(4, 5, seed=7), atol=1e-5)


# ---- latent_scale -----------------------------------------------------------------------------

def _latents():
    z = normal(6, 3, 4, 4) * torch.tensor([0.3, 1.0, 4.0])[:, None, None] + torch.tensor(
        [1.0, -2.0, 0.5])[:, None, None]
    return [(z,), (z[:2] * 3,)]


def _scaled(over, centre=True, spread=lambda z, over: z.std(over, keepdim=True)):
    return lambda z: (z - (z.mean(over, keepdim=True) if centre else 0)) / spread(z, over)


_CHANNEL = (0, 2, 3)


@problem(
    works="every channel has mean 0 and variance 1, which is what the noise schedule supposes.",
    hints=("One mean and one standard deviation per channel: over which axes do you take them?",
           "Over pictures and positions, axes 0, 2 and 3, with keepdim=True.",
           "return (z - z.mean((0, 2, 3), keepdim=True)) / z.std(..., keepdim=True)"),
    cases=_latents,
    also=(_scaled(_CHANNEL, spread=lambda z, d: z.std(d, keepdim=True, correction=0)),),
    mistakes=(
        (_scaled((1, 2, 3)), _scaled((2, 3)),
         "mean and spread are taken per picture: that erases contrast, and cannot be undone."),
        (_scaled((0, 1, 2, 3)), "one number for all channels: each needs its own."),
        (_scaled((0,)), "mean and spread are taken per position: share them over axes 2 and 3."),
        (_scaled(_CHANNEL, centre=False), "the mean is still there: subtract it first."),
        (_scaled(_CHANNEL, spread=lambda z, d: 1.0), "the mean is gone, the spread is not: divide by it."),
        (_scaled(_CHANNEL, spread=lambda z, d: z.var(d, keepdim=True)),
         "you divide by the variance. Divide by its root."),
        (_scaled(_CHANNEL, spread=lambda z, d: 1 / z.std(d, keepdim=True)),
         "you multiply by the spread: divide."),
        (_scaled(_CHANNEL, spread=lambda z, d: z.abs().amax(d, keepdim=True)),
         "the largest value depends on one outlier; use the standard deviation."),
        (lambda z: z, "nothing is scaled."),
    ),
)
def latent_scale(z):
    """Latents as diffusion expects them.

    z: (N, C, h, w), the latents of many pictures as an encoder gives them.
    Returns them with mean 0 and variance 1 in each of the C channels, like z.
    """
    return (z - z.mean(_CHANNEL, keepdim=True)) / z.std(_CHANNEL, keepdim=True)


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
    s = level[:, None, None, None]
    return (1 - s**2).sqrt() * small + s * eps
