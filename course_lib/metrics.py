"""How far apart are two sets of samples? No pretrained network needed.

Energy distance (Szekely & Rizzo 2013): 2 E|x - y| - E|x - x'| - E|y - y'|, zero only where the two
distributions are equal. On pictures it is computed on the features of a fixed random convolution.
"""
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
