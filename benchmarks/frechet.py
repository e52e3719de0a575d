"""Our Frechet distance against the usual formula with scipy.linalg.sqrtm: seconds, and their ratio.

    python benchmarks/frechet.py            # about a minute
"""
import time

import scipy.linalg
import torch

from course_lib.metrics import frechet_gaussians, gaussian


def usual(m1, S1, m2, S2):
    """The formula with the root of the product."""
    root = torch.from_numpy(scipy.linalg.sqrtm((S1 @ S2).numpy()).real.copy())
    return ((m1 - m2).square().sum() + (S1 + S2 - 2 * root).trace()).item()


def seconds(f, arguments, repeats=3):
    """The fastest of some runs, and the result."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = f(*arguments)
        best = min(best, time.perf_counter() - start)
    return best, result


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"{'d':>5} {'ours / s':>9} {'sqrtm / s':>10} {'ratio':>6} {'relative difference':>20}")
    for d in (128, 384, 768, 1280):
        mix = torch.randn(d, d, dtype=torch.float64) / d**0.5
        arguments = *gaussian(torch.randn(2 * d, d)), *gaussian(torch.randn(2 * d, d).double() @ mix + 0.1)
        (a, ours), (b, theirs) = seconds(frechet_gaussians, arguments), seconds(usual, arguments)
        print(f"{d:5} {a:9.3f} {b:10.3f} {b / a:6.1f} {abs(ours / theirs - 1):20.0e}")
