"""Random numbers that one seed makes the same on every device.

PyTorch refuses a generator of one device for numbers on another. So everything is drawn where the generator
lives, and moved then; without a generator it is drawn on the device itself, from torch's global state.
"""
import math

import torch
from torch import Tensor

from . import checks


def place(device, generator: torch.Generator | None):
    """Where to draw numbers that are needed on `device`."""
    if not isinstance(generator, torch.Generator | None):
        raise ValueError("generator must be a torch.Generator, such as torch.Generator().manual_seed(0); "
                         f"given {checks.kind(generator)}")
    return device if generator is None else generator.device


def normal(shape, generator: torch.Generator | None = None, device=None, dtype=None) -> Tensor:
    """N(0, I) of this shape, on `device`."""
    where = place(device, generator)
    return torch.randn(_whole(shape), dtype=dtype, device=where, generator=generator).to(device)


def uniform(shape, generator: torch.Generator | None = None, device=None) -> Tensor:
    """Even in [0, 1), of this shape, on `device`."""
    return torch.rand(_whole(shape), device=place(device, generator), generator=generator).to(device)


def whole(low: int, high: int, shape, generator: torch.Generator | None = None, device=None) -> Tensor:
    """Whole numbers, each of low .. high - 1 as likely, of this shape, on `device`."""
    checks.whole(high, checks.whole(low, -math.inf, what="low") + 1, what="high")
    where = place(device, generator)
    return torch.randint(low, high, _whole(shape), device=where, generator=generator).to(device)


def of_seed(seed: int) -> torch.Generator:
    """A generator on the CPU that gives the same numbers for the same seed, a whole number."""
    return torch.Generator().manual_seed(checks.whole(seed, -2**63, 2**64 - 1, "seed"))


def _whole(shape) -> tuple[int, ...]:
    if not isinstance(shape, list | tuple):
        raise ValueError(f"a shape must be a tuple, such as (4, 3, 32, 32); given {checks.kind(shape)}")
    return tuple(checks.whole(edge, 0, what="each number of a shape") for edge in shape)
