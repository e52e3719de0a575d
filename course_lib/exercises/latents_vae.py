"""Exercises of notebook 04, codes: the VAE's two formulas, rounding to tokens, and the scale."""
import functools

import torch
from torch.distributions import Normal

from . import normal, problem

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
        (_kl(lambda m, v: 0.5 * (v.exp() - 1 - v)),
         "mu is not used: a cloud that lies away from 0 differs from the prior, mu^2 is missing."),
        (_kl(lambda m, v: 0.5 * (m**2 + (0.5 * v).exp() - 1 - v)),
         "sigma stands where sigma^2 belongs: that is e^logvar, without the half."),
        (_kl(lambda m, v: 0.5 * (m**2 + (0.5 * v).exp() - 1 - 0.5 * v)),
         "sigma^2 and ln sigma^2 enter, not sigma and ln sigma: leave out the halves of logvar."),
        (_kl(lambda m, v: 0.5 * (m**2 + v.exp() - 1)), "the logarithm is missing: - ln sigma^2 = - logvar."),
        (_kl(lambda m, v: 0.5 * (m**2 + v.exp() - 1 + v)), "ln sigma^2 = logvar is subtracted, not added."),
        (_kl(lambda m, v: 0.5 * (m**2 - 1 - v)), "sigma^2 = e^logvar is missing."),
        (_kl(lambda m, v: 0.5 * (m**2 + (2 * v).exp() - 1 - 2 * v)),
         "you take logvar as ln sigma; it is ln sigma^2."),
        (_kl(lambda m, v: 0.5 * (m**2 + v**2 - 1 - (v**2).log())),
         "you take logvar as sigma; it is ln sigma^2."),
        (_kl(lambda m, v: 0.5 * (m**2 + v - 1 - v.log())),
         "you take logvar as sigma^2; it is ln sigma^2."),
        (_kl(lambda m, v: 0.5 * (m**2 + v.exp() - v)),
         "the -1 is missing: for mu = 0, sigma = 1 the result must be 0."),
        (_kl(lambda m, v: 0.5 * (m.abs() + v.exp() - 1 - v)), _kl(lambda m, v: 0.5 * (m + v.exp() - 1 - v)),
         "mu enters squared."),
    ),
)
def kl_std_normal(mu, logvar):
    """KL(N(mu, e^logvar) || N(0, I)) of every sample, in nats.

    mu, logvar: (B, ...), the mean and ln sigma^2 of each latent number.
    Returns (B,): summed over the numbers of a sample.
    """
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1)


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


def _with_given_noise(f):
    """f, in which torch's own draw with a gradient, Normal(mu, sigma).rsample(), takes the given eps."""
    @functools.wraps(f)
    def call(mu, logvar, eps):
        draw, Normal.rsample = Normal.rsample, lambda self, shape=(): self.loc + eps * self.scale
        try:
            return f(mu, logvar, eps)
        finally:
            Normal.rsample = draw
    return call


@problem(
    works="a draw from the cloud, and the gradient reaches mu and sigma.",
    hints=("eps has mean 0 and variance 1. How does it become a draw with mean mu and sd sigma?",
           "z = mu + sigma eps with sigma = e^(logvar / 2).",
           "return mu + torch.exp(... * logvar) * eps"),
    cases=_noisy_clouds,
    adapt=_with_given_noise,
    also=(lambda m, v, e: m - (0.5 * v).exp() * e,),  # -eps is as good a noise as eps
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
        (lambda z: z.ceil(), "that rounds up: round to the nearest whole number, also down."),
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
        (_scaled((1,)),
         "mean and spread are taken over the channels of one position: take them over axes 0, 2, 3."),
        (_scaled((0, 1, 2, 3)), _scaled((0, 1, 2, 3), centre=False),
         "one number for all channels: each needs its own."),
        (_scaled((0,)), "mean and spread are taken per position: share them over axes 2 and 3."),
        (_scaled(_CHANNEL, centre=False), "the mean is still there: subtract it first."),
        (_scaled(_CHANNEL, spread=lambda z, d: 1.0), "the mean is gone, the spread is not: divide by it."),
        (_scaled(_CHANNEL, spread=lambda z, d: z.var(d, keepdim=True)),
         "you divide by the variance. Divide by its root."),
        (_scaled(_CHANNEL, spread=lambda z, d: 1 / z.std(d, keepdim=True)),
         "you multiply by the spread: divide."),
        (_scaled(_CHANNEL, spread=lambda z, d: z.abs().amax(d, keepdim=True)),
         "the largest value depends on one outlier; use the standard deviation."),
        (lambda z: z / z.std(_CHANNEL, keepdim=True) - z.mean(_CHANNEL, keepdim=True),
         "brackets: subtract the mean first, then divide all of it by the standard deviation."),
        (lambda z: z, "nothing is scaled."),
    ),
)
def latent_scale(z):
    """Latents as diffusion expects them.

    z: (N, C, h, w), the latents of many pictures as an encoder gives them.
    Returns them with mean 0 and variance 1 in each of the C channels, like z.
    """
    return (z - z.mean((0, 2, 3), keepdim=True)) / z.std((0, 2, 3), keepdim=True)
