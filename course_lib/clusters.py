"""Labels that nobody wrote: pictures that look alike form a group, and the group's number is the label.

A network that is told the group need not choose among all pictures, only among a few like ones. Drawing the
group first, as often as it occurs, and then a picture of it is drawing from all pictures:
p(z) = sum over c of p(c) p(z | c). No text and no human label is used (Bao et al. 2022, "Why are conditional
generative models better than unconditional ones?"; Liu et al. 2020, who label pictures for a GAN so).
"""
import torch
from torch import Tensor
from torch.nn import functional as F

from . import checks, rng


@checks.typed
def unit_pca(z: Tensor, d: int = 64) -> Tensor:
    """Latents (N, ...) -> unit vectors (N, d): where each lies, seen from the mean, along the d
    principal axes. Without the length, groups come out of more equal size."""
    z = checks.finite(z, "latents").flatten(1)
    if len(z) < 2:
        raise ValueError(f"principal axes need two latents or more, given {len(z)}")
    checks.whole(d, 1, z.shape[1], f"d, principal axes of latents of {z.shape[1]} numbers,")
    z = z - z.mean(0)
    _, axes = torch.linalg.eigh(z.T @ z)  # from the least important to the most
    return F.normalize(z @ axes[:, -d:], dim=1)


@checks.typed
def kmeans(y: Tensor, weights: Tensor, k: int, rounds: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points y (N, d), how much each counts (N,) -> the group of each, (N,) in 0 .. k - 1, and the share of
    the weight that each group has, (k,), sums to 1 (Lloyd 1982).

    The first centre is a point drawn at random, the next ones are drawn far from those before: with a
    chance in proportion to the squared distance (k-means++, Arthur & Vassilvitskii 2007). Then, in turn,
    every point joins the nearest centre and every centre moves to the mean of its points. A centre that
    loses all its points starts again at a point drawn at random. Ready-made: `sklearn.cluster.KMeans`.
    """
    checks.whole(k, 1, len(_points(y)), f"k, groups of {len(y)} points,")
    checks.whole(rounds, 0, what="rounds")
    checks.weights(weights, len(y), "weights")
    w, g = (weights / weights.sum()).to(y), rng.of_seed(seed)
    row = lambda chance, n: torch.multinomial(chance.cpu(), n, replacement=True, generator=g).to(y.device)
    draw = lambda chance, n=1: y[row(chance, n)]
    centres, d2 = draw(w), torch.full_like(w, torch.inf)
    while len(centres) < k:
        d2 = torch.minimum(d2, (y - centres[-1]).square().sum(1))
        far = w * d2  # all 0 where there are fewer places than centres
        centres = torch.cat([centres, draw(far if far.any() else w)])
    for _ in range(rounds):
        group = torch.cdist(y, centres).argmin(1)
        share = w.new_zeros(k).index_add_(0, group, w)
        total = torch.zeros_like(centres).index_add_(0, group, w[:, None] * y)
        empty = share == 0
        centres = total / share.clamp(min=1e-12)[:, None]
        centres[empty] = draw(w, int(empty.sum())) if empty.any() else centres[empty]
    group = torch.cdist(y, centres).argmin(1)
    return group, w.new_zeros(k).index_add_(0, group, w)


def _points(y: Tensor) -> Tensor:
    if checks.finite(y, "points").ndim != 2:
        raise ValueError(f"points must be (N, d), given {checks.kind(y)}")
    return y
