"""How far apart are two distributions, or two sets of samples?

| distance | of | zero means | source |
|---|---|---|---|
| kl_gaussian, kl_samples, kl_histogram | densities | equal | Kullback & Leibler 1951 |
| energy_distance | sets | equal | Szekely & Rizzo 2013 |
| frechet (FID) | sets, as two Gaussians | equal means and covariances | Heusel et al. 2017, eq. 6 |
| kid, cmmd | sets | equal, as far as the kernel sees | Binkowski et al. 2018; Jayasumana et al. 2024 |
| precision_recall | sets, by their neighbourhoods | - | Kynkaanniemi et al. 2019; Naeem et al. 2020 |

A set of pictures enters as features (N, d): which ones, how many and how the pictures were resized belongs
to the result. `random_features` needs no training; notebook 06 has better ones.
"""
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from . import checks
from .rng import of_seed, place


@checks.typed
def random_features(x: Tensor, width: int = 64, seed: int = 0) -> Tensor:
    """Pictures (N, 3, S, S) in [-1, 1] -> (N, 32 width): two fixed random convolutions, averaged
    over a 4 x 4 grid. Untrained, and yet sensitive to edges and colours (Saxe et al. 2011)."""
    checks.pictures(x)
    checks.counts(width=width)
    g = of_seed(seed)
    for c_in, c_out in ((3, width), (width, 2 * width)):
        w = torch.randn(c_out, c_in, 3, 3, generator=g) / (9 * c_in) ** 0.5
        x = F.relu(F.conv2d(x, w.to(x), padding=1, stride=2))
    return F.adaptive_avg_pool2d(x, 4).flatten(1)


# ---- Kullback-Leibler divergence, in nats -------------------------------------------------------

@checks.typed
def kl_gaussian(m1: Tensor, S1: Tensor, m2: Tensor, S2: Tensor) -> float:
    """KL(N(m1, S1) || N(m2, S2)); m (d,), S (d, d) positive definite. Computed in float64.

    1/2 [tr(S2^-1 S1) + (m2 - m1)^T S2^-1 (m2 - m1) - d + ln(det S2 / det S1)]
    """
    _gaussians(m1, S1, m2, S2)
    m1, S1, m2, S2 = (v.double() for v in (m1, S1, m2, S2))
    L1, L2 = torch.linalg.cholesky(S1), torch.linalg.cholesky(S2)
    trace = torch.linalg.solve_triangular(L2, L1, upper=False).square().sum()
    shift = torch.linalg.solve_triangular(L2, (m2 - m1)[:, None], upper=False).square().sum()
    logdet = 2 * (L2.diagonal().log() - L1.diagonal().log()).sum()
    return (0.5 * (trace + shift - len(m1) + logdet)).item()


@checks.typed
def kl_samples(log_p: Callable, log_q: Callable, x: Tensor) -> tuple[float, float]:
    """KL(p || q) from samples x (N, ...) of p: (mean of ln p - ln q, its standard error)."""
    difference = log_p(x) - log_q(x)
    return difference.mean().item(), (difference.std() / len(difference) ** 0.5).item()


@checks.typed
def kl_histogram(p: Tensor, q: Tensor) -> float:
    """KL of two histograms of counts or shares, (bins,) each; infinite where q is empty and p is not."""
    if p.shape != q.shape or not all(h.min() >= 0 and 0 < h.sum() < torch.inf for h in (p, q)):
        raise ValueError(f"expected two histograms of equal shape, not negative and not empty; got "
                         f"{tuple(p.shape)} and {tuple(q.shape)}")
    p, q = p.double() / p.sum(), q.double() / q.sum()
    used = p > 0
    return (p[used] * (p[used] / q[used]).log()).sum().item()


@checks.typed
def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture x against y, both (B, 3, H, W) in [-1, 1], clipped to
    what can be shown: (B,). 10 lg(2^2 / mean squared error); infinite for equals."""
    if checks.pictures(x).shape != checks.pictures(y).shape:
        raise ValueError(f"expected pictures of one shape, given {tuple(x.shape)} and {tuple(y.shape)}")
    return 10 * torch.log10(4 / ((x.clamp(-1, 1) - y) ** 2).flatten(1).mean(1))


# ---- Two sets of samples ------------------------------------------------------------------------

@checks.typed
def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'|, zero only for equal distributions.

    Unbiased estimate from samples x (N, d) and y (M, d): 0 on average for equal distributions,
    so that it can come out slightly negative. Units: those of x."""
    check(x, y)
    within = lambda z: torch.cdist(z, z).sum() / (len(z) * (len(z) - 1))
    return (2 * torch.cdist(x, y).mean() - within(x) - within(y)).item()


@checks.typed
def gaussian(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d; divided by N - 1) of features (N, d), in float64."""
    return x.double().mean(0), torch.cov(x.double().T).reshape(x.shape[1], x.shape[1])


@checks.typed
def frechet_gaussians(m1: Tensor, S1: Tensor, m2: Tensor, S2: Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2): the squared 2-Wasserstein distance of two Gaussians.

    S1 S2 has the eigenvalues of S1^1/2 S2 S1^1/2, which is symmetric: so no root of a product,
    which for few samples comes out with imaginary parts, is ever taken.
    """
    m1, S1, m2, S2 = (v.double() for v in (m1, S1, m2, S2))
    values, vectors = torch.linalg.eigh(S1)
    half = vectors * values.clamp(min=0).sqrt() @ vectors.T
    roots = torch.linalg.eigvalsh(half @ S2 @ half).clamp(min=0).sqrt()
    return ((m1 - m2).square().sum() + S1.trace() + S2.trace() - 2 * roots.sum()).item()


@checks.typed
def frechet(real: Tensor, fake: Tensor) -> float:
    """Frechet distance of features (N, d) and (M, d), FID if they are Inception-v3's.

    Biased upwards by about c / N: compare only at equal N, and draw the distance of real to real.
    Warns where a set has fewer samples than dimensions.
    """
    check(real, fake)
    few = min(len(real), len(fake))
    if few <= real.shape[1]:
        checks.warn(f"{few} samples in {real.shape[1]} dimensions: the covariance is singular and the "
                    "distance far too large. Draw more samples, or use kid.")
    return frechet_gaussians(*gaussian(real), *gaussian(fake))


@checks.typed
def mmd(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor], unbiased: bool = True) -> float:
    """Squared maximum mean discrepancy of x (N, d), y (M, d): E k(x, x') + E k(y, y') - 2 E k(x, y).

    unbiased: pairs of a sample with itself do not count, so that equal distributions give 0 on average,
    and sometimes less than 0. Otherwise they do, and it never is (Gretton et al. 2012, eqs. 3 and 5).
    """
    check(x, y)
    def within(z):
        k = kernel(z, z)
        return (k.sum() - k.diagonal().sum()) / (len(z) * (len(z) - 1)) if unbiased else k.mean()
    return (within(x) + within(y) - 2 * kernel(x, y).mean()).item()


@checks.typed
def kid(real: Tensor, fake: Tensor, subsets: int = 50, subset_size: int | None = None,
        generator: torch.Generator | None = None) -> tuple[float, float]:
    """Kernel distance of features (N, d), (M, d): unbiased mmd with the kernel (x.y / d + 1)^3.

    Mean over random subsets (default: half of the smaller set) and the standard error of that mean; the
    subsets overlap, so it is a little too small. With one subset there is no error: nan.
    """
    check(real, fake)
    checks.counts(subsets=subsets)
    most = min(len(real), len(fake))
    n = most // (1 if subsets == 1 else 2) if subset_size is None else subset_size
    checks.whole(n, 2, most, f"subset_size, of sets of {len(real)} and {len(fake)} samples,")
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
    order = lambda m: torch.randperm(m, device=place(None, generator), generator=generator)
    draw = lambda z: z[order(len(z))[:n].to(z.device)].double()
    values = torch.tensor([mmd(draw(real), draw(fake), kernel) for _ in range(subsets)])
    return values.mean().item(), (values.std() / subsets**0.5).item() if subsets > 1 else math.nan


@checks.typed
def cmmd(real: Tensor, fake: Tensor, sigma: float = 10.0, unbiased: bool = False) -> float:
    """CMMD: 1,000 times mmd of normalised CLIP features with a Gaussian kernel, exp(-|x - y|^2 / 2 sigma^2).

    Jayasumana et al. 2024 use the biased estimator; the unbiased one averages 0 for equal sets.
    """
    check(real, fake)
    if checks.number(sigma, 0, what="sigma") == 0:
        raise ValueError("sigma must be above 0")
    normal = lambda z: F.normalize(z.double(), dim=1)
    kernel = lambda a, b: torch.exp(-torch.cdist(a, b) ** 2 / (2 * sigma**2))
    return 1000 * mmd(normal(real), normal(fake), kernel, unbiased)


@checks.typed
def clip_score(pictures: Tensor, texts: Tensor) -> Tensor:
    """Agreement of pictures and texts, pair by pair, (N,), in 0 .. 100: 100 max(cosine, 0).

    pictures, texts: features (N, d) of one CLIP model, normalised or not (Hessel et al. 2021 have the
    factor 2.5 instead of 100).
    """
    if pictures.ndim != 2 or pictures.shape != texts.shape:
        raise ValueError("expected a text for every picture, features (N, d) of both; given "
                         f"{checks.kind(pictures)} and {checks.kind(texts)}")
    return 100 * F.cosine_similarity(pictures, texts).clamp(min=0)


class Overlap(NamedTuple):
    """Two sets compared by their neighbourhoods; all in 0 .. 1, but density, which can exceed 1."""
    precision: float
    recall: float
    density: float
    coverage: float


@checks.typed
def precision_recall(real: Tensor, fake: Tensor, k: int = 5) -> Overlap:
    """How much two sets of features (N, d), (M, d) share. A ball around each point reaches to its k-th
    neighbour in its own set; what lies in a ball of the other set is like that set.

    precision: share of fake points in a ball of a real one (quality). recall: share of real points in
    a ball of a fake one (variety). density: in how many real balls a fake point lies, as a share of
    k. coverage: share of real balls that hold a fake point.
    Among equal points a ball has no room: then all four are 0.
    (Kynkaanniemi et al. 2019, eq. 2; Naeem et al. 2020, eqs. 4 and 5.)
    """
    check(real, fake)
    checks.whole(k, 1, what="k")
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"the {k}-th neighbour needs more than {k} samples a set, got {len(real)} and "
                         f"{len(fake)}: draw more, or lower k")
    between = torch.cdist(real, fake)  # (N, M)
    radius = lambda x: torch.cdist(x, x).kthvalue(k + 1).values  # the nearest is the point itself
    in_real, in_fake = between < radius(real)[:, None], between < radius(fake)
    return Overlap(in_real.any(0).float().mean().item(), in_fake.any(1).float().mean().item(),
                   in_real.float().sum(0).mean().item() / k, in_real.any(1).float().mean().item())


def check(x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless x (N, d) and y (M, d) are two sets of finite features, N, M >= 2."""
    if not all(torch.is_tensor(z) and z.is_floating_point() for z in (x, y)):
        raise ValueError(f"expected tensors of features, floats; given {checks.kind(x)} and {checks.kind(y)}")
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"expected features (N, d) and (M, d) with N, M >= 2, got {tuple(x.shape)} and "
                         f"{tuple(y.shape)}")
    for z in (x, y):
        if not z.isfinite().all():
            raise ValueError(f"{(~z.isfinite()).any(1).sum()} of {len(z)} samples have features that are "
                             "not finite: look at the pictures that they come from")


def _gaussians(m1: Tensor, S1: Tensor, m2: Tensor, S2: Tensor) -> None:
    """Raise ValueError unless these are means (d,) and covariances (d, d) of two Gaussians."""
    if m1.ndim != 1 or m2.shape != m1.shape or {S1.shape, S2.shape} != {(len(m1), len(m1))}:
        raise ValueError("expected means (d,) and covariances (d, d): m1, S1, m2, S2; given "
                         f"{', '.join(checks.kind(v) for v in (m1, S1, m2, S2))}")
    for S in (S1, S2):
        if not torch.allclose(S, S.T, rtol=1e-3, atol=1e-6):
            raise ValueError("a covariance must be symmetric and finite")
