"""How far apart are two sets of samples? No pretrained network needed.

Energy distance (Szekely & Rizzo 2013): 2 E|x - y| - E|x - x'| - E|y - y'|, zero only where the two
distributions are equal. On pictures it is computed on the features of a fixed random convolution.
Overlap: how much of one set lies within the other, and the other way round.
"""
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased estimate from samples x (N, d) and y (M, d): 0 on average for equal distributions,
    so that it can come out slightly negative. Units: those of x."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"expected (N, d) and (M, d) with N, M >= 2, got {tuple(x.shape)} and "
                         f"{tuple(y.shape)}")
    within = lambda z: torch.cdist(z, z).sum() / (len(z) * (len(z) - 1))
    return (2 * torch.cdist(x, y).mean() - within(x) - within(y)).item()


def random_features(x: Tensor, width: int = 64, seed: int = 0) -> Tensor:
    """Pictures (N, 3, S, S) in [-1, 1] -> (N, 32 width): two fixed random convolutions, averaged
    over a 4 x 4 grid. Untrained, and yet sensitive to edges and colours (Saxe et al. 2011)."""
    g = torch.Generator().manual_seed(seed)
    for c_in, c_out in ((3, width), (width, 2 * width)):
        w = torch.randn(c_out, c_in, 3, 3, generator=g) / (9 * c_in) ** 0.5
        x = F.relu(F.conv2d(x, w.to(x), padding=1, stride=2))
    return F.adaptive_avg_pool2d(x, 4).flatten(1)


class Overlap(NamedTuple):
    """Two sets compared by their neighbourhoods; all in 0 .. 1, but density, which can exceed 1."""
    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real: Tensor, fake: Tensor, k: int = 5) -> Overlap:
    """How much two sets of features (N, d), (M, d) share. A ball around each point reaches to its k-th
    neighbour in its own set; what lies in a ball of the other set is like that set.

    precision: share of fake points in a ball of a real one (quality). recall: share of real points in
    a ball of a fake one (variety). density: in how many real balls a fake point lies, as a share of
    k. coverage: share of real balls that hold a fake point.
    (Kynkaanniemi et al. 2019, eq. 2; Naeem et al. 2020, eqs. 4 and 5.)
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"expected features (N, d) and (M, d), got {tuple(real.shape)} and "
                         f"{tuple(fake.shape)}")
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"the {k}-th neighbour needs more than {k} samples a set, got {len(real)} and "
                         f"{len(fake)}: draw more, or lower k")
    between = torch.cdist(real, fake)  # (N, M)
    radius = lambda x: torch.cdist(x, x).kthvalue(k + 1).values  # the nearest is the point itself
    in_real, in_fake = between < radius(real)[:, None], between < radius(fake)
    return Overlap(in_real.any(0).float().mean().item(), in_fake.any(1).float().mean().item(),
                   in_real.float().sum(0).mean().item() / k, in_real.any(1).float().mean().item())
