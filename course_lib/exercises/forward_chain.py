"""Exercises of notebook 01, the chain: x_t = sqrt(1 - beta_t) x_(t-1) + sqrt(beta_t) xi_t, step by step."""
import functools

import torch

from . import problem

# ---- forward_chain: any order of random numbers is right, so it is judged in distribution -------

_BETAS = torch.tensor([0.1, 0.4, 0.2, 0.5, 0.3, 0.15, 0.35, 0.25])


def _chain_case(seed=0):
    """128 grey pictures of three colours and 4 x 6 pixels, all 8.0: the mean shows the shrinking."""
    return torch.full((128, 3, 4, 6), 8.0), _BETAS.clone(), torch.Generator().manual_seed(seed)


@functools.lru_cache(maxsize=4)
def _path(f, seed=0, run=0):
    """The path that f makes, computed once for each seed and run: all rules look at the same numbers."""
    return f(*_chain_case(seed)).float()


def _means(f):
    """The mean after each step, divided by what it should be: 1 within 0.03."""
    return _path(f)[1:].mean(dim=(1, 2, 3, 4)) / (8 * (1 - _BETAS).cumprod(0).sqrt())


def _noise(f):
    """The noise that must have been added in each step, (T, pictures, numbers); N(0, 1) if f is right."""
    path, beta = _path(f).flatten(2), _BETAS.reshape(-1, 1, 1)
    return (path[1:] - (1 - beta).sqrt() * path[:-1]) / beta.sqrt()


def _fresh(f):
    """The noise with mean 0 in each step: of a path that shrinks wrongly, too."""
    return _noise(f) - _noise(f).mean(dim=(1, 2), keepdim=True)


def _related(f, *first):
    """The largest correlation among pictures (1, 0, 2), numbers (2, 0, 1) or steps (0, 1, 2)."""
    rows = _fresh(f).permute(*first).flatten(1)
    return torch.corrcoef(rows).nan_to_num(1.0).fill_diagonal_(0).abs().max()


def _normal(f):
    """Whether the quantiles of the noise are those of the normal distribution."""
    share = torch.linspace(0.01, 0.99, 50)
    return (torch.quantile(_fresh(f).flatten(), share) - torch.special.ndtri(share)).abs().max() < 0.1


# 9,216 numbers per step: a mean is uncertain by 0.011, a standard deviation by 0.008
_CHAIN_RULES = (
    (lambda f: _path(f).shape == (9, 128, 3, 4, 6),
     "the path needs T + 1 entries of x0's shape: path[0] is x0, then one entry for each step."),
    (lambda f: _path(f).isfinite().all(), "some entries of the path are NaN or infinite."),
    (lambda f: not (_path(f) == _path(f)[-1]).all(),
     "all entries of the path are the same: is one tensor changed in place, as by `x *= ...`, and appended "
     "again and again? Make a new one in each step: `x = ...`."),
    (lambda f: torch.equal(_path(f)[0], _chain_case()[0]),
     "path[0] is x0, still without noise; path[t] is what t steps made of it."),
    (lambda f: torch.equal(_path(f), _path(f, run=1)),
     "two runs with the same seed differ. Draw with torch.randn(..., generator=gen)."),
    (lambda f: not torch.equal(_path(f), _path(f, seed=1)),
     "the seed of gen changes nothing. Draw the noise with torch.randn(..., generator=gen)."),
    (lambda f: _noise(f).min() < -0.01,
     "the noise is never negative: torch.rand is uniform on 0 .. 1. Use torch.randn."),
    (lambda f: _related(f, 1, 0, 2) < 0.6 and _related(f, 2, 0, 1) < 0.6,
     "some pictures, colours or pixels share their noise. Draw it with the full shape of x0."),
    (lambda f: _path(f)[-1].mean() < 5,
     "the picture is not shrunk: without sqrt(1 - beta) the sd at T is above 1, and the mean "
     "never goes to 0."),
    (lambda f: (_means(f)[0] - 1).abs() < 0.03,
     "the mean after one step is off: the factor of x_(t-1) is sqrt(1 - beta_t), and step 1 uses "
     "betas[0]."),
    (lambda f: torch.corrcoef(_path(f)[-2:].flatten(1))[0, 1] > 0.3,
     "each x_t is drawn anew from x_0. In a chain x_t grows out of x_(t-1)."),
    (lambda f: _related(f, 0, 1, 2) < 0.5,
     "the same noise comes back: the steps must be independent, so draw a new one in each of them."),
    (lambda f: (_means(f) - 1).abs().max() < 0.03,
     "the first step shrinks rightly, later ones do not: step t uses betas[t - 1], also to shrink."),
    (lambda f: (_fresh(f)[0].std() - _BETAS[0].sqrt()).abs() > 0.05,
     "the noise has the variance beta^2: multiply it by sqrt(beta_t), not by beta_t."),
    (lambda f: (_fresh(f)[0].std() - 1).abs() < 0.05,
     "the noise has the wrong size, in the first step already: multiply it by sqrt(beta_t), so that its "
     "variance is what the shrinking took away."),
    (lambda f: (_fresh(f).std(dim=(1, 2)) - 1).abs().max() < 0.05,
     "the steps do not have the variances betas: step t uses betas[t - 1], in this order."),
    (_normal, "the noise has the right mean and variance, but it is not normal. Use torch.randn."),
)


@problem(
    works="t small steps, shrink and add, in a chain that keeps the variance at 1.",
    hints=("One step is x_t = sqrt(1 - beta_t) x_(t-1) + sqrt(beta_t) xi_t, with a new xi_t each time.",
           "Start a list with x0, loop over betas, append, and torch.stack at the end.",
           "fresh = torch.randn(x.shape, generator=gen); x = (1 - b).sqrt() * x + ... * fresh"),
    cases=lambda: [_chain_case()],
    limits=_CHAIN_RULES,
    exact=False,
)
def forward_chain(x0, betas, gen):
    """Walk the chain: x_t = sqrt(1 - beta_t) x_(t-1) + sqrt(beta_t) xi_t, xi_t ~ N(0, I).

    x0: (B, C, H, W). betas: (T,), betas[0] belongs to step 1. gen: a torch.Generator (CPU) for the noise.
    Returns the whole path, (T+1, B, C, H, W), path[0] = x0.
    """
    path = [x0]
    for beta in betas:
        fresh = torch.randn(x0.shape, generator=gen).to(x0)
        path.append((1 - beta).sqrt() * path[-1] + beta.sqrt() * fresh)
    return torch.stack(path)
