"""Labels that nobody wrote: pictures that look alike form a group, and the group's number is the label.

A network that is told the group need not choose among all pictures, only among a few like ones. Drawing the
group first, as often as it occurs, and then a picture of it is drawing from all pictures:
p(z) = sum over c of p(c) p(z | c). No text and no human label is used (Bao et al. 2022, "Why are conditional
generative models better than unconditional ones?"; Liu et al. 2020, who label pictures for a GAN so).
"""
import torch
from torch import Tensor
from torch.nn import functional as F


def directions(z: Tensor, d: int = 64) -> Tensor:
    """Latents (N, ...) -> unit vectors (N, d): where each lies, seen from the mean, along the d
    principal axes. Without the length, groups come out of more equal size."""
    z = z.flatten(1) - z.flatten(1).mean(0)
    if d > z.shape[1]:
        raise ValueError(f"latents of {z.shape[1]} numbers have no {d} principal axes; choose a smaller d")
    _, axes = torch.linalg.eigh(z.T @ z)  # from the least important to the most
    return F.normalize(z @ axes[:, -d:], dim=1)


def kmeans(y: Tensor, weights: Tensor, k: int, rounds: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points y (N, d), how much each counts (N,) -> the group of each, (N,) in 0 .. k - 1, and the share of
    the weight that each group has, (k,), sums to 1 (Lloyd 1982).

    Every point joins the nearest centre, then every centre moves to the mean of its points. A centre that
    loses all its points starts again at a point drawn at random.
    """
    if not 1 <= k <= len(y):
        raise ValueError(f"{len(y)} points can form 1 .. {len(y)} groups, not {k}")
    w, g = (weights / weights.sum()).to(y), torch.Generator().manual_seed(seed)
    draw = lambda n: y[torch.multinomial(w, n, generator=g)]
    centres = draw(k)
    for _ in range(rounds):
        group = torch.cdist(y, centres).argmin(1)
        share = w.new_zeros(k).index_add_(0, group, w)
        total = torch.zeros_like(centres).index_add_(0, group, w[:, None] * y)
        empty = share == 0
        centres = total / share.clamp(min=1e-12)[:, None]
        centres[empty] = draw(int(empty.sum())) if empty.any() else centres[empty]
    group = torch.cdist(y, centres).argmin(1)
    return group, w.new_zeros(k).index_add_(0, group, w)
